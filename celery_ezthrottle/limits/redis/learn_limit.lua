-- ARGV: key of a bucket, number of successes that were not noted, length of the window. A call was limited. Gives the number of
-- calls that are let through in each window now.
local key, unnoted, length = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local learned = learned_key(key)
local count, known, since = unpack(redis.call('HMGET', learned, 'count', 'length', 'since'))
length = math.max(length, tonumber(known) or 0)
if count and NOW - since < length then
  count = count + unnoted -- of another process, which has met the same limit
else
  count, since = succeeded_in(key, length) + unnoted, NOW
end
count = math.max(1, count)
redis.call('HSET', learned, 'count', count, 'length', length, 'since', since, 'grown', NOW, 'step', 1)
keep(learned, KNOWN_FOR)
return count
