-- ARGV: nonce, the time until which it is remembered. Gives 1 for the first one who takes it, else 0.
local key = PREFIX .. 'n:' .. ARGV[1]
if redis.call('SETNX', key, '1') == 0 then return 0 end

expire(key, ARGV[2] + LATE) -- LATE, because the clock of the server may differ from the clocks of the callers
return 1
