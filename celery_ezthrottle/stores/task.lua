-- ARGV: task id. Gives {forwards, journal, state or nil}, or nil.
local task = read(task_key(ARGV[1]), 'forwards', 'journal', 'c')
if not task or task.forwards == '' then return false end
local newest = read(continuation_key(task.c), 'state')
return {task.forwards, task.journal, newest and newest.state or false}
