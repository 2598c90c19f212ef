-- ARGV: continuation id, now, due again at. Gives the fields of a Claim, or nil.
local id, now, due = unpack(ARGV)
local record = read_claim(id)
if not record or record.state == 'done' then return false end
local score = redis.call('ZSCORE', DUE, id)
if not score or tonumber(score) > tonumber(now) then return false end
return claim(id, record, due)
