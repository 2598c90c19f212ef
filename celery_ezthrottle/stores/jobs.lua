-- Continuations and the jobs they wait for: the job's hash has a field w:<continuation id> for each that is bound to it, whatever
-- its state. Once there is a result, it also has `result` and `digest`.

-- Whether any continuation is bound to a job.
local function is_awaited(job)
  for _, field in ipairs(redis.call('HKEYS', job)) do
    if string.sub(field, 1, 2) == 'w:' then return true end
  end
  return false
end

-- Take a continuation out of its job, and drop the job when nobody else needs it. Gives the digest of the result, or "".
-- A shared result stays for those who share it later, until the time its waiters have given it.
local function unbind(id, record)
  local key = job_key(record.job_id)
  local job = read(key, 'digest')
  if not job then return '' end
  redis.call('HDEL', key, 'w:' .. id)
  if not (is_shared(record) and job.digest ~= '') and not is_awaited(key) then redis.call('DEL', key) end
  return job.digest
end
