-- ARGV: pattern, its limit as text, the same as a list of one bucket; or '' twice: what holds is the limit that callers bring.
-- Gives the text that was set before, or ''.
local pattern, text, live = unpack(ARGV)
local state, before = state_key(pattern), redis.call('HGET', CHANGED, pattern)
if text ~= '' then
  redis.call('HSET', CHANGED, pattern, text)
  redis.call('HSET', state, 'live', live)
  keep(CHANGED, FOR_GOOD)
  keep(state, FOR_GOOD)
else
  redis.call('HDEL', CHANGED, pattern)
  redis.call('HDEL', state, 'live')
end
for _, key in ipairs(redis.call('ZRANGE', QUEUES, 0, -1)) do -- who waits may go on
  if (pattern_of(key) or key) == pattern then redis.call('ZADD', QUEUES, 'XX', 0, key) end
end
return before or ''
