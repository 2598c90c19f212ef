-- The windows of the buckets. Each window has a list of the times of its grants, the newest first. They are the very times at
-- which the calls may go out, past or reserved, and the list is sorted. A time that has left the window is forgotten, but none
-- before.
--
-- Never over: entries `count` places apart are at least `length` apart. So count + 1 grants never lie within one window. Three
-- acts change the list, and each keeps this:
-- - A new entry at `place` comes `length` or more after the entry that is then `count` places behind it. It moves each newer
--   entry one place away from those behind `place`; fit() lets it in only where these newer ones have room for that.
-- - An entry that is given back brings those around it nearer by a place: what is then `count` apart was further apart.
-- - What is forgotten left the window before now, and no later grant is before now.
-- Most calls are granted with three commands on a list, because each one costs a twentieth of the whole call.
--
-- A window of more than some 10,000 calls has an entry for each group of `group` grants: the time of the last one. `count` is
-- then the number of groups that fit in, rounded down. An entry is never earlier than a grant of its group, so a group that
-- comes `length` after an older one has all its grants `length` after each of that one.

local LOOK_BACK = 64 -- turns that are reserved and later than the one wanted; behind more than these, the call goes after them

local SPARE = 64 -- entries that a list may have too many, so that it is trimmed once for so many grants
local RENEWED = 15e6 -- the lifetime of a list is renewed once in so long; GRACE is longer

local function entry(list, index) return tonumber(redis.call('LINDEX', list, index)) end
local function filled_key(window) return window.list .. ':filled' end -- number of grants in the newest group

-- The first time, `at` or later, at which a window takes a grant. Notes in `window` where in its list the grant belongs.
local function fit(window, at)
  local list, count, length = window.list, window.count, window.length
  local place, newer = 0, entry(list, 0)
  if window.group > 1 then
    window.joins = newer and tonumber(redis.call('GET', filled_key(window)) or 0) < window.group
    local left = entry(list, window.joins and count or count - 1)
    return left and math.max(at, left + length) or at
  end
  while newer and at < newer and place < LOOK_BACK do
    local behind = entry(list, place + count - 1)
    if behind and newer - behind < length then break end -- with one more between them, `newer` would be over
    place = place + 1
    newer = entry(list, place)
  end
  window.place, window.newer = place, newer
  local left = entry(list, place + count - 1)
  return math.max(at, newer or 0, left and left + length or 0)
end

-- Let the keys live until their newest grant has left the window, and a while longer.
local function outlive(window, at, newest)
  if newest and math.floor(at / RENEWED) == math.floor(newest / RENEWED) then return end
  local lifetime = math.ceil((at + window.length - NOW) / 1e3) + GRACE
  redis.call('PEXPIRE', window.list, lifetime)
  if window.group > 1 then redis.call('PEXPIRE', filled_key(window), lifetime) end
end

-- Write down a grant at the time that fit() has given.
local function record(window, at)
  local list, entries = window.list, 0
  if window.group > 1 then
    local newest = entry(list, 0)
    if window.joins then
      redis.call('INCR', filled_key(window))
      if at > newest then redis.call('LSET', list, 0, at) end
    else
      entries = redis.call('LPUSH', list, math.max(at, newest or 0))
      redis.call('SET', filled_key(window), 1)
      newest = nil
    end
    outlive(window, at, newest)
  elseif window.place == 0 then
    entries = redis.call('LPUSH', list, at)
    outlive(window, at, window.newer)
  elseif window.newer then
    entries = redis.call('LINSERT', list, 'BEFORE', window.newer, at)
  else
    entries = redis.call('RPUSH', list, at)
  end
  -- Behind an entry that has left the window, all have.
  if entries > window.count + SPARE and entry(list, window.count) <= NOW - window.length then
    redis.call('LTRIM', list, 0, window.count - 1)
  end
end

-- The call of a grant was not sent, and will not be. (A group does not know its grants: there the turn is lost.)
local function give_back(buckets, at)
  for _, bucket in ipairs(buckets) do
    for _, window in ipairs(bucket.windows) do
      if window.group == 1 then redis.call('LREM', window.list, 1, at) end
    end
  end
end
