-- Gives what status.lua gives, of each batch that is kept: the newest one first.
local found = {}
for _, id in ipairs(redis.call('ZREVRANGE', BATCHES, 0, -1)) do
  local status = status_of(id)
  if status then table.insert(found, status) else redis.call('ZREM', BATCHES, id) end
end
return found
