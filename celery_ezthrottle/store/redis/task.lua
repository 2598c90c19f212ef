-- ARGV: task id. Gives {forwards, journal, ended or "", retried or "", state or "", facts or ""}, or nil.
local task = read(task_key(ARGV[1]), 'forwards', 'journal', 'ended', 'retried', 'c')
if not task then return false end
local newest = read(continuation_key(task.c), 'state', 'facts') or {state = '', facts = ''}
return {task.forwards, task.journal, task.ended, task.retried, newest.state, newest.facts}
