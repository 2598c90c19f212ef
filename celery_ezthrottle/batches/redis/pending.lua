-- Gives the number of the members of all batches that have not ended.
local found = 0
for _, id in ipairs(redis.call('ZRANGE', OPEN, 0, -1)) do
  local total, ended = unpack(redis.call('HMGET', batch_key(id), 'total', 'ended'))
  if total then found = found + total - ended else redis.call('ZREM', OPEN, id) end
end
return found
