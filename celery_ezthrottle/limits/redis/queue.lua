-- Those who wait for a turn that is far off. A ticket waits in one queue: that of the bucket that puts its turn off the furthest.
-- So it keeps nobody from the other buckets meanwhile. When its turn comes it goes through all buckets, ahead of newcomers.

-- Something may have become free in the buckets: let due() look at their queues.
local function look_again(buckets)
  for _, bucket in ipairs(buckets) do redis.call('ZADD', QUEUES, 'XX', 0, bucket.key) end
end

local function free_leases(buckets, ticket)
  for _, bucket in ipairs(buckets) do redis.call('ZREM', leases_key(bucket.key), ticket) end
end

-- That there is a line stands in the state of the bucket, which each call reads anyway.
local function enqueue(ticket, key, score, lifetime)
  redis.call('HSET', state_key(key), 'line', 1)
  keep(state_key(key), lifetime)
  redis.call('ZADD', queue_key(key), score, ticket)
  keep(queue_key(key), lifetime)
  redis.call('ZADD', QUEUES, 'NX', 0, key)
  keep(QUEUES, lifetime)
end

-- Forget a ticket. Gives whether there was one. Its turn, if it was called, goes to the next.
local function forget(ticket)
  local buckets, key, at = unpack(redis.call('HMGET', ticket_key(ticket), 'buckets', 'key', 'at'))
  redis.call('ZREM', CALLED, ticket)
  if not buckets then return false end
  redis.call('ZREM', queue_key(key), ticket)
  redis.call('DEL', ticket_key(ticket))
  buckets = cjson.decode(buckets)
  if at then
    read(buckets)
    return_turn(buckets, tonumber(at))
    free_leases(buckets, ticket)
    look_again(buckets)
  end
  return true
end

-- A ticket is called some time before its turn, because the message of its task is on its way for a while: so long as the last
-- ones were (the mean, and twice the deviation from it), which differs from one deployment, and one hour, to another.
local SOONEST, LATEST, AT_FIRST = 5e3, 250e3, 100e3
local WAY = HOME .. 'way' -- hash: mean, deviation

local function time_to_come()
  local mean, deviation = unpack(redis.call('HMGET', WAY, 'mean', 'deviation'))
  if not mean then return AT_FIRST end
  return math.min(LATEST, math.max(SOONEST, mean - deviation / 2))
end

local function note_coming(duration)
  duration = math.min(duration, LATEST)
  local mean, deviation = unpack(redis.call('HMGET', WAY, 'mean', 'deviation'))
  mean, deviation = tonumber(mean) or duration, tonumber(deviation) or duration / 2
  deviation = deviation + (math.abs(duration - mean) - deviation) / 8
  redis.call('HSET', WAY, 'mean', mean + (duration - mean) / 16, 'deviation', deviation)
  keep(WAY, 3600e6)
end
