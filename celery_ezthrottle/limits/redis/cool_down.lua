-- ARGV: the time until which nothing is granted, the same with jitter, keys of buckets.
-- Gives the number of buckets that cool longer now.
local ends, ends_about = tonumber(ARGV[1]), ARGV[2]
local cooled = 0
for i = 3, #ARGV do
  local state = state_key(ARGV[i])
  if ends > NOW and ends > (tonumber(redis.call('HGET', state, 'cool')) or 0) then
    redis.call('HSET', state, 'cool', ends_about)
    redis.call('HDEL', state, 'steep')
    keep(state, ends_about - NOW)
    cooled = cooled + 1
  end
end
return cooled
