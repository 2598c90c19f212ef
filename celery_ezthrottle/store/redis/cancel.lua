-- ARGV: task id, result, now. Gives the id of the continuation that this act has cancelled, or nil.
local task_id, result, now = unpack(ARGV)
return cancel_newest(task_id, result, now)
