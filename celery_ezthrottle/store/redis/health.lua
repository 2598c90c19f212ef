-- Gives {seconds, microseconds, how far the receiver's clock is ahead or "", INFO memory or "", INFO persistence or ""}, all of
-- the node that has the keys. INFO is "" when the server does not permit it.
local clock, info = redis.call('TIME'), {}
for i, section in ipairs({'memory', 'persistence'}) do
  local text = redis.pcall('INFO', section)
  info[i] = type(text) == 'string' and text or ''
end
return {clock[1], clock[2], redis.call('GET', PREFIX .. 'receiver') or '', unpack(info)}
