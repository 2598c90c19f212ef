-- ARGV: continuation id, now, due again at. Gives the fields of a Claim, or nil.
local id, now, due = unpack(ARGV)
local record = read(continuation_key(id), 'state')
if not record or not (is_waiting(record) or is_delivered(record)) then return false end
local score = redis.call('ZSCORE', DUE, id)
if not score or tonumber(score) > tonumber(now) then return false end
return claim(id, due)
