-- ARGV: id, interval. All members are stored: from now on they are released. Gives 1; or 0 when the batch is gone.
local id, interval = ARGV[1], tonumber(ARGV[2])
local lifetime = redis.call('HGET', batch_key(id), 'lifetime')
if not lifetime then return 0 end
redis.call('ZADD', BATCHES, NOW, id)
redis.call('ZADD', OPEN, NOW + interval, id)
keep(id, tonumber(lifetime))
return 1
