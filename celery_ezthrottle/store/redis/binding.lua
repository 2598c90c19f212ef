-- STORED, or SUBMITTED under another job → SUBMITTED under this job. The caller sets when it is due. `job` is nil, or has
-- `unclaimed`. (A job of an unknown version is not written to: then only the deadline wakes the continuation.)
local function bind(id, record, job_id, job, foreign)
  local at, stored = job_key(job_id), record.state == 'stored'
  if not stored and record.job_id ~= job_id then unbind(id, record) end
  redis.call('HSET', continuation_key(id), 'state', 'submitted', 'job_id', job_id)
  record.state, record.job_id, record.job = 'submitted', job_id, ''
  if not foreign then
    redis.call('HSET', at, 'v', VERSION, 'w:' .. id, '')
    local goes = deadline_of(record) + GRACE
    if job and job.unclaimed == '' then
      keep(at, goes)
    else
      if job then claim_unclaimed(job_id, job.unclaimed) end
      expire(at, goes)
    end
  end
  if stored then leave_stored(id) end -- after it is bound: what ends here may be bound to the same job, and would drop it
end
