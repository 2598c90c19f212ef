-- ARGV: name, id, total, in_flight, lifetime, patience. Takes a name for a batch that is stored next; nobody releases its members
-- before it is opened. Gives 1; or 0 when a batch of that name has not ended.
local name, id, total, in_flight, lifetime, patience = unpack(ARGV)
local known = redis.call('GET', name_key(name))
if known then
  local before, ended = unpack(redis.call('HMGET', batch_key(known), 'total', 'ended'))
  if before and tonumber(ended) < tonumber(before) then return 0 end
end
redis.call('SET', name_key(name), id)
redis.call('HSET', batch_key(id), 'name', name, 'total', total, 'in_flight', in_flight, 'lifetime', lifetime, 'next', 0,
  'ended', 0, 'failed', 0, 'revoked', 0)
redis.call('SET', states_key(id), string.rep('w', total))
keep(id, tonumber(patience))
return 1
