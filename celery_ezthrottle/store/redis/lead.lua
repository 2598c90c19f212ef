-- ARGV: owner, now, the time until which it leads. Gives 1 when it does, else 0.
local owner, now, ends = unpack(ARGV)
local key = PREFIX .. 'leader'
local leader = redis.call('HMGET', key, 'owner', 'until')
if leader[1] and leader[1] ~= owner and tonumber(leader[2]) > tonumber(now) then return 0 end

redis.call('HSET', key, 'owner', owner, 'until', ends)
expire(key, ends + LATE) -- LATE, because the clock of the server may differ from the clocks of the callers
return 1
