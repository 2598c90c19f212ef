-- ARGV: continuation id, run, now, end of the lease or "".
-- Gives {StartOutcome}, or {"started", facts, job id, failure, time of delivery, journal, result}.
local id, run, now, lease = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'run', 'own', 'facts', 'job_id', 'failure', 'delivered_at')
if not record then return {'gone'} end
if is_closed(run) then return {'taken'} end
if record.state == 'done' then return {'done'} end
if is_waiting(record) then return {'waiting'} end
if record.state == 'running' and record.run ~= run then
  local ends = redis.call('ZSCORE', DUE, id)
  if not ends or tonumber(ends) > tonumber(now) and not is_closed(record.run) then return {'taken'} end
end

local task = read(task_key(task_of(record)), 'journal')
local result
if record.own ~= '' then
  result = redis.call('HGET', key, 'result')
else
  local job = read(job_key(record.job_id), 'result', 'digest')
  result = job and job.digest ~= '' and job.result
end
-- Without the result or the journal, the run would send requests again that were already executed.
if not result or not task then return {'gone'} end

redis.call('HSET', key, 'state', 'running', 'run', run)
if lease == '' then redis.call('ZREM', DUE, id) else schedule(id, lease, record) end
return {'started', record.facts, record.job_id, record.failure, record.delivered_at, task.journal, result}
