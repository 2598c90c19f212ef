-- ARGV: the fields of Suspension in their order, but message and envelope as one; then the limit. Gives a SuspendOutcome.
local id, task_id, run, resumed_from, retries, forward, shared, parked, journal, job, failure, suspended_at,
  submit_deadline, deadline, submit_at, turn, limit = unpack(ARGV)
local key, task = continuation_key(id), task_key(task_id)

if is_closed(run) then return 'stale' end
local before, foreign_task = read(task, 'c', 'ended', 'journal')
local same, foreign = read(key, 'state', 'run')
if foreign_task or foreign then return 'stale' end
if same then -- this act is repeated: its answer was lost
  if same.state == 'stored' and same.run == run then return 'suspended' end
  return same.state == 'done' and 'stale' or 'already'
end

local newest = before and before.c or ''
if resumed_from ~= '' then
  local resumed = read(continuation_key(resumed_from), 'state', 'run')
  if not resumed or resumed.state ~= 'running' or resumed.run ~= run then return 'stale' end
end
local retried -- a continuation whose run Celery retried by this one; the end of that run is not reported yet
if newest ~= resumed_from and newest ~= '' then
  local other = read(continuation_key(newest), 'state', 'job_id', 'facts', 'own')
  if other and is_in_the_way(other, retries) then return 'already' end
  retried = other and other.state ~= 'done' and other
end
if resumed_from == '' and redis.call('ZCARD', DUE) >= tonumber(limit) then return 'full' end

local record = {facts = table.concat({deadline, retries, forward, shared, suspended_at, submit_deadline, task_id}, ' ')}
redis.call('HSET', key, 'v', VERSION, 'state', 'stored', 'run', run, 'facts', record.facts, 'parked', parked, 'job', job,
  'failure', failure)
expire(key, deadline + GRACE)
local replaces = resumed_from ~= '' and resumed_from or newest
if replaces ~= '' then redis.call('HSET', key, 'before', replaces) end
redis.call('HSET', task, 'v', VERSION, 'forwards', forward, 'journal', journal, 'c', id)
if before then
  if before.ended ~= '' then redis.call('HDEL', task, 'ended') end
  keep(task, deadline + GRACE)
else
  expire(task, deadline + GRACE)
end
schedule(id, submit_at, record)
if turn ~= '' then
  redis.call('ZADD', TURNS, turn, id)
  keep(TURNS, deadline + GRACE)
end
redis.call('SET', run_key(run), SUSPENDED, 'EX', LATE)
if resumed_from ~= '' then set_aside(resumed_from, before and before.journal or '') end
if retried then
  redis.call('HSET', task, 'retried', retries_of(retried))
  finish(newest, retried)
end
return 'suspended'
