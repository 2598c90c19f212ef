-- ARGV: nonce, holder, the time until which it is remembered. Gives who has it.
local nonce, holder, ends = unpack(ARGV)
local key = PREFIX .. 'n:' .. nonce
if redis.call('SETNX', key, holder) == 0 then return redis.call('GET', key) end

expire(key, ends + LATE) -- LATE, because the clock of the server may differ from the clocks of the callers
return holder
