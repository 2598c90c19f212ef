-- Those who wait for a turn that is far off. A ticket waits in one queue: that of the bucket that puts its turn off the furthest.
-- So it keeps nobody from the other buckets meanwhile. When its turn comes it goes through all buckets, ahead of newcomers.

-- Something may have become free in the buckets: let due() look at their queues.
local function look_again(buckets)
  for _, bucket in ipairs(buckets) do redis.call('ZADD', QUEUES, 'XX', 0, bucket.key) end
end

local function free_leases(buckets, ticket)
  for _, bucket in ipairs(buckets) do
    if bucket.concurrency then redis.call('ZREM', leases_key(bucket.key), ticket) end
  end
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
