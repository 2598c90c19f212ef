-- ARGV: continuation id, run, 1 to keep the journal. Gives 1 when the run held it, else 0.
local id, run, keep_journal = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'run', 'task_id', 'job_id', 'shared')
if not record or record.state ~= 'running' or record.run ~= run then return 0 end

finish(id, record)
local task = task_key(record.task_id)
if keep_journal ~= '1' and read(task) then redis.call('DEL', task) end
return 1
