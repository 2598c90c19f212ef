-- ARGV: id. Forgets a batch that could not be stored.
local id = ARGV[1]
local name = redis.call('HGET', batch_key(id), 'name')
if name and redis.call('GET', name_key(name)) == id then redis.call('DEL', name_key(name)) end
redis.call('UNLINK', batch_key(id), states_key(id), members_key(id), flight_key(id))
redis.call('ZREM', BATCHES, id)
redis.call('ZREM', OPEN, id)
return 1
