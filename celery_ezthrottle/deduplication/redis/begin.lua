-- ARGV: identity, name, name of the leader whose place it takes ('' = none), lease. Gives the name of the leader.
local identity, name, instead_of, lease = unpack(ARGV)
local key = way_key(identity)
local leader = redis.call('HGET', key, 'leader')
if leader and leader ~= instead_of then
  redis.call('HINCRBY', key, 'followers', 1)
  return leader
end
redis.call('DEL', key)
redis.call('HSET', key, 'leader', name)
redis.call('PEXPIRE', key, lease)
return name
