-- ARGV: the fields of Parked in its order. Gives a SuspendOutcome.
local id, task_id, run, resumed_from, retries, forward, shared, message, envelope, journal, job, failure, suspended_at,
  submit_deadline, deadline, submit_at = unpack(ARGV)
local key, task = continuation_key(id), task_key(task_id)

if is_closed(run) or is_foreign(task) or is_foreign(key) then return 'stale' end

local same = read(key, 'state', 'suspended_by')
if same then -- the answer to this very act was lost
  if same.state == 'stored' and same.suspended_by == run then return 'suspended' end
  return same.state == 'done' and 'stale' or 'already'
end

local resumed
if resumed_from ~= '' then
  resumed = read(continuation_key(resumed_from), 'state', 'run', 'job_id', 'shared')
  if not resumed or resumed.state ~= 'running' or resumed.run ~= run then return 'stale' end
end

local before = read(task, 'c') or {c = ''}
if before.c ~= resumed_from then
  local newest = read(continuation_key(before.c), 'state', 'retries', 'job_id', 'shared')
  if newest and newest.state ~= 'done' then
    if newest.state ~= 'running' or tonumber(newest.retries) >= tonumber(retries) then return 'already' end
    finish(before.c, newest) -- the run that Celery retried by this one has not said yet that it has ended
  end
end

redis.call('HSET', key, 'v', VERSION, 'task_id', task_id, 'state', 'stored', 'suspended_by', run, 'retries', retries, 'forward', forward,
  'shared', shared, 'message', message, 'envelope', envelope, 'job', job, 'failure', failure,
  'suspended_at', suspended_at, 'submit_deadline', submit_deadline, 'deadline', deadline, 'before', before.c)
redis.call('HSET', task, 'v', VERSION, 'forwards', forward, 'journal', journal, 'c', id)
keep(key, deadline + GRACE)
keep(task, deadline + GRACE)
schedule(id, submit_at, deadline)
redis.call('SET', run_key(run), 'suspended', 'EX', LATE)
if resumed then finish(resumed_from, resumed) end
return 'suspended'
