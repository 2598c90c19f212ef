-- ARGV: continuation id, job id, now. Gives the state after, or nil.
local id, job_id, now = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'deadline')
if not record then return false end
if record.state ~= 'stored' then return record.state end

bind(id, record, job_id)
local job = job_key(job_id)
if read(job) and redis.call('HEXISTS', job, 'result') == 1 then
  wake(id, record, now)
  return 'delivered'
end
return 'submitted'
