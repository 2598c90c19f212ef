-- ARGV: buckets with max_wait, margin and lease, ticket, the turn that is given back or none.
-- Gives the time of the turn when that is now, else {key of the bucket that has no turn so soon, or "", the time of the turn or
-- -1, the present time}.
local asked, ticket, late = cjson.decode(ARGV[1]), ARGV[2], ARGV[3]
local buckets = asked.buckets
local goes_first, queued, called = late, nil, nil
local line = read(buckets)
if line then queued, called = unpack(redis.call('HMGET', ticket_key(ticket), 'key', 'at')) end
if called then
  called = tonumber(called)
  local in_time = called >= NOW - asked.margin
  for _, bucket in ipairs(buckets) do -- a pause or cool-down that began after the call
    in_time = in_time and not bucket.paused and called >= bucket.cool
  end
  redis.call('ZREM', CALLED, ticket)
  if in_time then
    redis.call('DEL', ticket_key(ticket))
    return {'', called, NOW}
  end
  redis.call('HDEL', ticket_key(ticket), 'at')
  late, goes_first = called, true
end
if late then return_turn(buckets, tonumber(late)) end

local before, by = 0, nil
if line and not goes_first then
  for _, bucket in ipairs(buckets) do
    local queue = queue_key(bucket.key)
    local first = bucket.line and redis.call('ZRANGE', queue, 0, 0)[1]
    if first and first ~= ticket then
      before, by = redis.call('ZCARD', queue) * bucket.interval, bucket.key
      break
    end
    if bucket.line and not first and redis.call('EXISTS', CALLED) == 0 then -- the line has dissolved
      redis.call('HDEL', state_key(bucket.key), 'line')
    end
  end
end
local at, put_off = first_turn(buckets, ticket)
if at and not by and at - NOW <= asked.max_wait then
  if queued then
    redis.call('ZREM', queue_key(queued), ticket)
    redis.call('DEL', ticket_key(ticket))
  end
  take(buckets, ticket, at, asked.lease)
  return at == NOW and at or {'', at, NOW}
end
if late then free_leases(buckets, ticket) end
return {by or put_off, at and at + before or -1, NOW}
