-- ARGV: continuation id, run, now, 1 to take over. Gives {StartOutcome} or {"started", the other fields of Resumption}.
local id, run, now, take_over = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'run', 'task_id', 'forward', 'job_id', 'failure', 'suspended_at', 'delivered_at')
if not record then return {'gone'} end
if is_closed(run) then return {'taken'} end
if record.state == 'done' then return {'done'} end
if is_waiting(record) then return {'waiting'} end
if record.state == 'running' and record.run ~= run and take_over ~= '1' then return {'taken'} end

local result = redis.call('HGET', key, 'result')
if not result and read(job_key(record.job_id)) then result = redis.call('HGET', job_key(record.job_id), 'result') end
local task = read(task_key(record.task_id), 'journal')
-- Without its result or its journal a run would send again what was already executed.
if not result or not task then return {'gone'} end

redis.call('HSET', key, 'state', 'running', 'run', run, 'started_at', now)
redis.call('ZREM', DUE, id)
return {'started', record.task_id, record.forward, record.job_id, task.journal, record.failure, result,
  record.suspended_at, record.delivered_at}
