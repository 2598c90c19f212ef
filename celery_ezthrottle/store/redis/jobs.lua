-- Continuations and the jobs they wait for: the job's hash has a field w:<continuation id> for each that is bound to it, whatever
-- its state. Once there is a result, it also has `result` and `digest`.

-- Whether any continuation is bound to a job.
local function is_awaited(job)
  for _, field in ipairs(redis.call('HKEYS', job)) do
    if string.sub(field, 1, 2) == 'w:' then return true end
  end
  return false
end

-- Take a continuation out of its job. With the last one the result is dropped; but one that others may share, or that came after
-- this one was settled, so that a retry will ask for it, is unclaimed from now on. Gives the digest of the result, or "".
-- `record` has `job_id`, `facts` and, unless it waits, `own`.
local function unbind(id, record)
  local key = job_key(record.job_id)
  local job = read(key, 'digest')
  if not job then return '' end
  redis.call('HDEL', key, 'w:' .. id)
  if is_awaited(key) then return job.digest end
  if job.digest ~= '' and (is_shared(record) or record.own == 'settled') then
    add_unclaimed(record.job_id, redis.call('HSTRLEN', key, 'result'), server_time())
  else
    redis.call('DEL', key)
  end
  return job.digest
end
