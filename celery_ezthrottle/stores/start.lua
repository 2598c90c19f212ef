-- ARGV: continuation id, run, now, end of the lease or "".
-- Gives, packed, the StartOutcome; and after "started": facts, job id, failure, time of delivery, journal, result.
local id, run, now, lease = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'run', 'own', 'facts', 'job_id', 'failure', 'delivered_at')
if not record then return packed{'gone'} end
if is_closed(run) then return packed{'taken'} end
if record.state == 'done' then return packed{'done'} end
if is_waiting(record) then return packed{'waiting'} end
if record.state == 'running' and record.run ~= run then
  local ends = redis.call('ZSCORE', DUE, id)
  if not ends or tonumber(ends) > tonumber(now) and not is_closed(record.run) then return packed{'taken'} end
end

local task = read(task_key(task_of(record)), 'journal')
local result
if record.own ~= '' then
  result = redis.call('HGET', key, 'result')
else
  local job = read(job_key(record.job_id), 'result', 'digest')
  result = job and job.digest ~= '' and job.result
end
-- Without its result or its journal a run would send again what was already executed.
if not result or not task then return packed{'gone'} end

redis.call('HSET', key, 'state', 'running', 'run', run)
if lease == '' then redis.call('ZREM', DUE, id) else schedule(id, lease, record) end
return packed{'started', record.facts, record.job_id, record.failure, record.delivered_at, task.journal, result}
