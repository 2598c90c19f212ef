-- ARGV: continuation id, result, now. Gives 1 when this act has given it its outcome, else 0.
local id, result, now = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'facts', 'job_id')
if not record or not is_waiting(record) then return 0 end

local job = record.state == 'submitted' and read(job_key(record.job_id), 'digest')
if job and job.digest ~= '' then -- the result of its job is there, and has not reached it yet
  leave_crowd(id, record.job_id)
  wake(id, record, now)
else
  wake(id, record, now, 'result', result, 'own', 'settled')
end
schedule(id, now, record)
return 1
