-- ARGV: task id, result, now. Gives the id of the continuation that this act has cancelled, or nil.
local task_id, result, now = unpack(ARGV)
local task = read(task_key(task_id), 'c')
if not task then return false end
local record = read(continuation_key(task.c), 'state', 'own', 'facts')
if not record or record.own == 'cancelled' or not (is_waiting(record) or is_delivered(record)) then return false end

wake(task.c, record, now, 'result', result, 'own', 'cancelled')
schedule(task.c, now, record)
return task.c
