-- ARGV: task id. Gives {forwards, journal, state or "", retries or ""}, or nil.
local task = read(task_key(ARGV[1]), 'forwards', 'journal', 'c')
if not task then return false end
local newest = read(continuation_key(task.c), 'state', 'retries') or {state = '', retries = ''}
return {task.forwards, task.journal, newest.state, newest.retries}
