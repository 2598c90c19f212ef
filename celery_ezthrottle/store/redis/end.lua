-- ARGV: task id, retries.
local task_id, retries = unpack(ARGV)
local task = read(task_key(task_id), 'forwards', 'c')
if not task then return end
local newest = read(continuation_key(task.c), 'state')
if not newest or newest.state == 'done' then end_task(task_id, task, retries) end
