-- ARGV: limit, interval. The batches that a sweep looks at now: nobody else does within the interval. Gives their ids.
local found = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', OPEN, '-inf', NOW, 'LIMIT', 0, ARGV[1])) do
  local lifetime = redis.call('HGET', batch_key(id), 'lifetime')
  if lifetime then
    redis.call('ZADD', OPEN, NOW + ARGV[2], id)
    keep(id, tonumber(lifetime))
    table.insert(found, id)
  else
    redis.call('ZREM', OPEN, id)
  end
end
return found
