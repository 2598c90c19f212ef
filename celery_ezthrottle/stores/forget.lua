-- ARGV: task id.
local key = task_key(ARGV[1])
local task = read(key, 'c')
if not task then return end
local newest = read(continuation_key(task.c), 'state')
if not newest or newest.state == 'done' then redis.call('DEL', key) end
