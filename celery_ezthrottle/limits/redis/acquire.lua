-- ARGV: buckets, ticket, longest wait, margin, lease, the turn that is given back or "".
-- Gives {key of the bucket that has no turn so soon, or "", the time of the turn or -1, the present time}.
local ticket, max_wait, margin, lease, late = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local buckets = buckets_of(ARGV[1])
local queued, called = unpack(redis.call('HMGET', ticket_key(ticket), 'key', 'at'))
local goes_first = late ~= ''
if called then
  called = tonumber(called)
  local in_time = called >= now() - margin
  for _, bucket in ipairs(buckets) do -- a pause or cool-down that began after the call
    local cool, paused = unpack(redis.call('HMGET', state_key(bucket.key), 'cool', 'paused'))
    in_time = in_time and not paused and called >= (tonumber(cool) or 0)
  end
  redis.call('ZREM', CALLED, ticket)
  if in_time then
    redis.call('DEL', ticket_key(ticket))
    return {'', called, now()}
  end
  redis.call('HDEL', ticket_key(ticket), 'at')
  late, goes_first = called, true
end
if late ~= '' then give_back(buckets, late) end

local before, by = 0, nil
if not goes_first then
  for _, bucket in ipairs(buckets) do
    local first = redis.call('ZRANGE', queue_key(bucket.key), 0, 0)[1]
    if first and first ~= ticket then
      before, by = redis.call('ZCARD', queue_key(bucket.key)) * bucket.interval, bucket.key
      break
    end
  end
end
local at, put_off = first_turn(buckets, ticket)
if at and not by and at - now() <= max_wait then
  if queued then
    redis.call('ZREM', queue_key(queued), ticket)
    redis.call('DEL', ticket_key(ticket))
  end
  take(buckets, ticket, at, lease)
  return {'', at, now()}
end
if late ~= '' then free_leases(buckets, ticket) end
return {by or put_off, at and at + before or -1, now()}
