-- ARGV: task id. Gives {forwards, journal, ended or "", state or "", facts or ""}, or nil.
local task = read(task_key(ARGV[1]), 'forwards', 'journal', 'ended', 'c')
if not task then return false end
local newest = read(continuation_key(task.c), 'state', 'facts') or {state = '', facts = ''}
return {task.forwards, task.journal, task.ended, newest.state, newest.facts}
