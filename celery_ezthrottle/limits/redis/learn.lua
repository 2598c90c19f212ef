-- ARGV: buckets of which the first one learns, ticket, the time of its turn, 1 when its call was allowed or 0 when it was
-- limited, number of calls that were allowed in the last window and never had a turn here, for how long the API asks to wait or
-- 0, the same with jitter, windows that the API has told as JSON or ''.
-- Gives {the end of the cool-down that a limited call has begun; or -1, the calls that are let through in a window; or -1}.
--
-- The hash of what was learned: count and length (the window); since (calls with earlier turns had them when the last one was
-- limited), event (the turn of that one), met (when its answer came), seen (calls that the API has then allowed); grown (when the count was changed),
-- quiet (how long it stays then), step (by how much it grows next), rising (it grows without waiting); ok, odd, last (answers that are judged, and whether the
-- last was ok), loose (until when limited calls say nothing), tries (limited calls without a success between them).
local bucket, ticket, at = cjson.decode(ARGV[1])[1], ARGV[2], tonumber(ARGV[3])
local live = set_for(bucket.key)
if live then bucket = live_bucket(live, bucket.key) end
local allowed, unnoted, asked, asked_about = ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local told = ARGV[8]
local learned, successes = learned_key(bucket.key), successes_key(bucket.key)
local FIELDS = {
  'count', 'length', 'since', 'event', 'met', 'seen', 'grown', 'quiet', 'step', 'rising', 'ok', 'odd', 'last', 'loose', 'tries',
}
local values, is = redis.call('HMGET', learned, unpack(FIELDS)), {}
for i, name in ipairs(FIELDS) do is[name] = tonumber(values[i]) end
local start = bucket.windows[1]
local length = is.length or start and start.length or AT_LEAST
local count = is.count or start and start.count
local set = {}

local function used(seconds) return redis.call('ZCOUNT', successes, '(' .. at - seconds, '+inf') end

local function judge(ok)
  local oks, odds = (is.ok or 0) + (ok and 1 or 0), (is.odd or 0) + (ok and 0 or 1)
  if oks + odds > JUDGED then oks, odds = math.floor(oks / 2), math.floor(odds / 2) end
  set.ok, set.odd, set.last = oks, odds, ok and 1 or 0
  return oks, odds
end

local function finish(cool)
  local arguments = {}
  for name, value in pairs(set) do
    arguments[#arguments + 1] = name
    arguments[#arguments + 1] = value
  end
  if #arguments > 0 then redis.call('HSET', learned, unpack(arguments)) end
  if redis.call('EXISTS', learned) == 1 then keep(learned, math.max(KNOWN_FOR, 2 * length)) end
  return {cool or -1, set.count or count or -1}
end

if told ~= '' then
  set.told = told
  redis.call('ZADD', QUEUES, 'XX', 0, bucket.key)
end

if allowed then
  redis.call('ZADD', successes, at, ticket .. ':' .. ARGV[3])
  redis.call('ZREMRANGEBYSCORE', successes, '-inf', NOW - math.max(length, MEMORY))
  keep(successes, math.max(length, MEMORY))
  if not count then return finish() end
  if is.since and at < is.since then -- on its way when another was limited
    if at > is.event - length and at <= is.met and not (is.loose and is.loose > NOW) then
      set.seen = is.seen + 1
      set.count = math.max(count, math.min(MOST, set.seen))
    end
    return finish()
  end
  judge(true)
  set.tries = 0
  local is_quiet = is.rising == 1 or not is.grown and start or NOW - (is.grown or NOW) >= (is.quiet or 0)
  if is_quiet and used(length) >= math.ceil(0.9 * count) then
    local step = is.step or 1
    set.count, set.grown, set.rising = math.min(MOST, count + step), NOW, 1
    set.length = length
    set.step = math.min(2 * step, math.max(1, math.floor(count / 8)))
    redis.call('ZADD', QUEUES, 'XX', 0, bucket.key) -- who waits may go on
  end
  return finish()
end

-- It was limited.
if is.loose and is.loose > NOW then
  local oks, odds = judge(false)
  if oks + odds >= JUDGED / 2 and odds >= TIGHT * (oks + odds) then set.loose, set.ok, set.odd = 0, 0, 0 end
  return finish()
end
local follows = not (is.since and at < is.since)
if follows then
  local seen = used(length) + unnoted
  local tries = (is.tries or 0) + 1
  set.tries = tries
  set.quiet = math.min(KNOWN_FOR, QUIET * length + COST * asked)
  if asked == 0 then -- it does not say for how long: first of all, the window is enough
    asked = tries > 1 and math.min(60e6, 1e6 * 2 ^ (tries - 2)) or 1
    asked_about = asked
  elseif not start and asked > length then
    length = asked
    seen = used(length) + unnoted
  end
  if is.count and seen < is.count / 2 and is.last == 1 then
    local oks, odds = judge(false)
    if oks >= 2 and odds >= ODD and odds >= SHARE * (oks + odds) then
      set.loose, set.ok, set.odd = NOW + KNOWN_FOR, 0, 0
      redis.call('HSET', state_key(bucket.key), 'cool', NOW, 'steep', 1)
      keep(state_key(bucket.key), 0)
      redis.call('ZADD', QUEUES, 'XX', 0, bucket.key)
      return finish()
    end
  end
  if tries == 1 then
    local least = is.event and is.count and is.count / 2 or 1 -- the first one tells it all
    set.count = math.min(MOST, math.max(1, seen, math.floor(least)))
  end
  set.length, set.event, set.met, set.seen = length, at, NOW, seen
  set.since, set.grown, set.step = NOW + asked, NOW + asked, 1
  set.rising = seen == 0 and not is.count and 1 or 0 -- when none was allowed before, it tells nothing about how many may be
elseif unnoted > 0 then
  set.seen = is.seen + unnoted
  set.count = math.max(count, math.min(MOST, set.seen))
end
if asked == 0 then return finish(is.since) end
local state = state_key(bucket.key)
local cool = math.max(NOW + asked_about, tonumber(redis.call('HGET', state, 'cool')) or 0)
local reserved = tonumber(redis.call('LINDEX', learned_list(bucket.key), 0)) or 0
redis.call('HSET', state, 'cool', cool, 'steep', 1) -- what was learned lets only so many through
keep(state, cool - NOW)
if follows then set.since = math.max(cool, reserved + 1) end
return finish(cool)
