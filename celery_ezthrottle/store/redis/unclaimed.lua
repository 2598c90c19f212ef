-- Results of jobs to which no continuation is bound, or none any more: webhooks that overtake `bind`, what others may share or a
-- retry may ask for, what nobody will ever ask for. The job of an unclaimed result has a field `unclaimed`: its bytes.

local UNCLAIMED = PREFIX .. 'unclaimed' -- sorted set: "<bytes>:<job id>" by the time at which the result goes

-- Drop the result of a member that is no longer in the set. Gives its bytes.
local function drop_unclaimed(member)
  local bytes, job_id = string.match(member, '^(%d+):(.*)$')
  local job = job_key(job_id)
  -- The server may have dropped it by its own clock, and another may have come in its place.
  if redis.call('HGET', job, 'unclaimed') == bytes then redis.call('DEL', job) end
  return tonumber(bytes)
end

local function prune_unclaimed(now)
  local members, bytes = redis.call('ZRANGEBYSCORE', UNCLAIMED, '-inf', now), 0
  if #members > 0 then
    redis.call('ZREMRANGEBYSCORE', UNCLAIMED, '-inf', now)
    for _, member in ipairs(members) do bytes = bytes + drop_unclaimed(member) end
    count('unclaimed_bytes', -bytes)
  end
end

-- Keep account of a result that is stored, within the bounds: the oldest go first. The bounds are the last two arguments of
-- every act: how many are kept, and how many bytes of them.
local function add_unclaimed(job_id, bytes, now)
  local most, most_bytes = tonumber(ARGV[#ARGV - 1]), tonumber(ARGV[#ARGV])
  local job, goes = job_key(job_id), now + UNCLAIMED_FOR
  if bytes > most_bytes then -- it would drive out all others in vain
    redis.call('DEL', job)
    return count('evicted', 1)
  end
  redis.call('HSET', job, 'unclaimed', bytes)
  expire(job, goes)
  prune_unclaimed(now)
  local held = redis.call('ZCARD', UNCLAIMED)
  if held == 0 then redis.call('HDEL', COUNTERS, 'unclaimed_bytes') end -- the set may have expired with all that was in it
  local added = redis.call('ZADD', UNCLAIMED, goes, bytes .. ':' .. job_id)
  local total = count('unclaimed_bytes', bytes * added)
  held = held + added
  while held > most or total > most_bytes do
    held, total = held - 1, count('unclaimed_bytes', -drop_unclaimed(redis.call('ZPOPMIN', UNCLAIMED)[1]))
    count('evicted', 1)
  end
  if held > 0 then keep(UNCLAIMED, goes) end
end

-- A result found who waits for it: it lives as long as that.
local function claim_unclaimed(job_id, bytes)
  redis.call('HDEL', job_key(job_id), 'unclaimed')
  if redis.call('ZREM', UNCLAIMED, bytes .. ':' .. job_id) == 1 then count('unclaimed_bytes', -bytes) end
end
