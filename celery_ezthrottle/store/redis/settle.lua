-- ARGV: continuation id, result, now. Gives 1 when this act has given it its outcome, else 0.
local id, result, now = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'facts')
if not record or not is_waiting(record) then return 0 end

wake(id, record, now, 'result', result, 'own', 'settled')
schedule(id, now, record)
return 1
