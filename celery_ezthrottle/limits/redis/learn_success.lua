-- ARGV: key of a bucket, ticket. A call has succeeded. Gives 1.
local key, ticket = ARGV[1], ARGV[2]
local learned, successes = learned_key(key), successes_key(key)
local count, length, since, grown, step = unpack(redis.call('HMGET', learned, 'count', 'length', 'since', 'grown', 'step'))
if not count then return 1 end
count, length, step = tonumber(count), tonumber(length), tonumber(step)
if NOW - since < length then -- it was on its way when another was limited, since none was let through meanwhile
  count = redis.call('HINCRBY', learned, 'count', 1)
end
redis.call('ZADD', successes, NOW, ticket)
keep(successes, length)
keep(learned, KNOWN_FOR)
if NOW - grown >= (step == 1 and QUIET or 1) * length and succeeded_in(key, length) >= MOSTLY * count then
  redis.call('HSET', learned, 'count', count + step, 'grown', NOW, 'step', 2 * step)
end
return 1
