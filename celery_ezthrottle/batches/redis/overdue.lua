-- ARGV: id, limit, lease, wait. The members in flight that a sweep looks at now. Those that were claimed, and whose lease is over,
-- are claimed again; those that are published are looked at again after `wait`. Gives {index, state, line (and message), ...}.
local id, limit, lease, wait = unpack(ARGV)
local found = {}
for _, index in ipairs(redis.call('ZRANGEBYSCORE', flight_key(id), '-inf', NOW, 'LIMIT', 0, limit)) do
  local state = state_of(id, index)
  redis.call('ZADD', flight_key(id), NOW + (state == 'c' and lease or wait), index)
  table.insert(found, index)
  table.insert(found, state)
  table.insert(found, redis.call('HGET', members_key(id), index))
end
return found
