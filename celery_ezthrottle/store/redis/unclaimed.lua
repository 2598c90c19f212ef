-- Unclaimed results: no continuation is bound to their job, or none any more. They come from webhooks that arrive before `bind`;
-- or others may share them, or a retry may ask for them; or nobody will ever ask for them. The job of an unclaimed result has a
-- field `unclaimed`: the size of the result in bytes.

local MOST_DROPPED = 100 -- results that one act drops; the next one goes on
local UNCLAIMED = PREFIX .. 'unclaimed' -- sorted set: "<bytes>:<job id>" by the time at which the result expires

-- Drop the result of a member that is no longer in the set. Gives its size in bytes.
local function drop_unclaimed(member)
  local bytes, job_id = string.match(member, '^(%d+):(.*)$')
  local job = job_key(job_id)
  -- The server may have expired the result by its own clock, and another one may be in its place.
  if redis.call('HGET', job, 'unclaimed') == bytes then redis.call('DEL', job) end
  return tonumber(bytes)
end

local function prune_unclaimed(now)
  local members, bytes = redis.call('ZRANGEBYSCORE', UNCLAIMED, '-inf', now, 'LIMIT', 0, MOST_DROPPED), 0
  if #members > 0 then
    redis.call('ZREM', UNCLAIMED, unpack(members))
    for _, member in ipairs(members) do bytes = bytes + drop_unclaimed(member) end
    count('unclaimed_bytes', -bytes)
  end
end

-- Register a stored result as unclaimed, within the bounds: the oldest results are dropped first. The bounds are the last two
-- arguments of every act: how many results are kept, and how many bytes of them.
local function add_unclaimed(job_id, bytes, now)
  local most, most_bytes = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  local job, goes = job_key(job_id), now + UNCLAIMED_FOR
  if bytes > most_bytes then -- it does not fit, even without all others
    redis.call('DEL', job)
    return count('evicted', 1)
  end
  redis.call('HSET', job, 'unclaimed', bytes)
  expire(job, goes)
  prune_unclaimed(now)
  local held = redis.call('ZCARD', UNCLAIMED)
  if held == 0 then redis.call('HDEL', COUNTERS, 'unclaimed_bytes') end -- the set may have expired with all its members
  local added = redis.call('ZADD', UNCLAIMED, goes, bytes .. ':' .. job_id)
  local total, evicted, freed = count('unclaimed_bytes', bytes * added), 0, 0
  held = held + added
  while evicted < MOST_DROPPED and (held - evicted > most or total - freed > most_bytes) do
    freed = freed + drop_unclaimed(redis.call('ZPOPMIN', UNCLAIMED)[1])
    evicted = evicted + 1
  end
  if evicted > 0 then
    count('unclaimed_bytes', -freed)
    count('evicted', evicted)
  end
  if held > evicted then keep(UNCLAIMED, goes) end
end

-- A continuation now waits for the result, which is not unclaimed any more. (The caller sets its new lifetime.)
local function claim_unclaimed(job_id, bytes)
  redis.call('HDEL', job_key(job_id), 'unclaimed')
  if redis.call('ZREM', UNCLAIMED, bytes .. ':' .. job_id) == 1 then count('unclaimed_bytes', -bytes) end
end
