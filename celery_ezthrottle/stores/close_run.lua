-- ARGV: task id, run, now. Gives 1 when the run suspended its task; else the run is closed, and 0.
local task_id, run, now = unpack(ARGV)
local task = read(task_key(task_id), 'c')
local newest = task and read(continuation_key(task.c), 'suspended_by')
if newest and newest.suspended_by == run then return 1 end

redis.call('SET', closed_key(run), now)
keep(closed_key(run), now + LATE)
return 0
