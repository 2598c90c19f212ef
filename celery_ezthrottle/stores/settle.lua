-- ARGV: continuation id, result, now. Gives 1 when it has its outcome from here, else 0.
local id, result, now = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'deadline')
if not record or not is_waiting(record) then return 0 end

redis.call('HSET', key, 'result', result, 'settled', 1)
wake(id, record, now)
return 1
