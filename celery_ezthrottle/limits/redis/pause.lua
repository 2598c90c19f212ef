-- ARGV: 1 to pause or 0 to go on, for how long at most, keys of buckets. Gives the number of buckets that were changed.
local pauses, lifetime = ARGV[1] == '1', tonumber(ARGV[2])
local changed = 0
for i = 3, #ARGV do
  local state = state_key(ARGV[i])
  if pauses then
    changed = changed + redis.call('HSET', state, 'paused', NOW + lifetime)
    keep(state, lifetime)
  elseif redis.call('HDEL', state, 'paused') == 1 then
    -- What goes on begins as after a cool-down: slowly.
    redis.call('HSET', state, 'cool', math.max(NOW, tonumber(redis.call('HGET', state, 'cool')) or 0), 'resumed', NOW)
    redis.call('HDEL', state, 'steep')
    keep(state, 3600e6) -- a bucket that `per` has split off may be used that much later
    redis.call('ZADD', QUEUES, 'XX', 0, ARGV[i])
    changed = changed + 1
  end
end
return changed
