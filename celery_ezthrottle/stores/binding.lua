-- STORED, or SUBMITTED under another job → SUBMITTED under this one; when it is due is for the caller to say. `job` has
-- `unclaimed`, or is nil. (Into a foreign job nothing is written: then only the deadline wakes.)
local function bind(id, record, job_id, job, foreign)
  local key, at = continuation_key(id), job_key(job_id)
  if record.state == 'stored' then
    redis.call('HDEL', key, 'job', 'open')
  elseif record.job_id ~= job_id then
    unbind(id, record)
  end
  redis.call('HSET', key, 'state', 'submitted', 'job_id', job_id)
  record.state, record.job_id, record.job = 'submitted', job_id, ''
  if foreign then return end

  redis.call('HSET', at, 'v', VERSION, 'w:' .. id, '')
  local goes = deadline_of(record) + GRACE
  if job and job.unclaimed == '' then return keep(at, goes) end
  if job then claim_unclaimed(job_id, job.unclaimed) end
  expire(at, goes)
end
