-- ARGV: continuation id, job id, now. Gives the state after, or nil.
local id, job_id, now = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'facts')
if not record then return false end
if record.state ~= 'stored' then return record.state end

local job, foreign = read(job_key(job_id), 'digest', 'unclaimed')
bind(id, record, job_id, job, foreign)
if job and job.digest ~= '' then
  wake(id, record, now)
  schedule(id, now, record)
else
  schedule(id, deadline_of(record), record)
end
return record.state
