-- ARGV: continuation id, run, 1 to keep the journal. Gives 1 when the run held it, else 0.
local id, run, keep_journal = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'run', 'job_id', 'facts', 'own')
if not record or record.state ~= 'running' or record.run ~= run then return 0 end

finish(id, record)
local task_id = task_of(record)
local task = read(task_key(task_id), 'forwards', 'c')
if task and keep_journal == '1' then
  redis.call('HSET', task_key(task_id), 'retried', retries_of(record))
elseif task then
  end_task(task_id, task, retries_of(record))
end
return 1
