-- ARGV: buckets with max_wait, margin and lease, ticket, the turn that is given back or none.
-- Gives the time of the turn when that is now and nothing is to be released, else {key of the bucket that has no turn so soon, or
-- "", the time of the turn or -1, the present time, 1 when it is to be released}.
local asked, ticket, late = cjson.decode(ARGV[1]), ARGV[2], ARGV[3]
local buckets = asked.buckets
local goes_first, queued, called, since, asked_before = late, nil, nil, nil, nil
local line = read(buckets)
if line then
  queued, called, since, asked_before = unpack(redis.call('HMGET', ticket_key(ticket), 'key', 'at', 'called', 'buckets'))
end
local holds = 0 -- 1: the call counts for the concurrency of a bucket until it is released
for _, bucket in ipairs(buckets) do
  if bucket.concurrency then holds = 1 end
end
if called then
  note_coming(NOW - since)
  called = tonumber(called)
  local in_time, known = called >= NOW - asked.margin, {}
  for _, bucket in ipairs(cjson.decode(asked_before)) do known[bucket.key] = true end
  for _, bucket in ipairs(buckets) do -- a pause or cool-down that began after the call, a limit that was set since it waits
    in_time = in_time and not bucket.paused and called >= bucket.cool and known[bucket.key]
    in_time = in_time and not (bucket.concurrency and is_full(bucket, ticket, true)) -- who came before has taken its place
  end
  redis.call('ZREM', CALLED, ticket)
  if in_time then
    redis.call('DEL', ticket_key(ticket))
    for _, bucket in ipairs(buckets) do
      if bucket.concurrency then take_place(bucket, ticket, called + asked.lease) end
    end
    return {'', called, NOW, holds}
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
    -- A ticket whose lifetime is over: its process is dead. Where no worker runs, nobody calls due(), which finds that too.
    while first and first ~= ticket and redis.call('PTTL', ticket_key(first)) <= GRACE do
      forget(first)
      redis.call('ZREM', queue, first)
      first = redis.call('ZRANGE', queue, 0, 0)[1]
    end
    if first and first ~= ticket then
      before, by = redis.call('ZCARD', queue) * bucket.interval, bucket.key
      break
    end
    if bucket.line and not first and redis.call('EXISTS', CALLED) == 0 then -- the line has dissolved
      redis.call('HDEL', state_key(bucket.key), 'line')
    end
  end
end
local at, put_off = first_turn(buckets, ticket, goes_first)
if at and not by and at - NOW <= asked.max_wait then
  if queued then
    redis.call('ZREM', queue_key(queued), ticket)
    redis.call('DEL', ticket_key(ticket))
  end
  take(buckets, ticket, at, asked.lease)
  return at == NOW and holds == 0 and at or {'', at, NOW, holds}
end
if late then free_leases(buckets, ticket) end
return {by or put_off, at and at + before or -1, NOW}
