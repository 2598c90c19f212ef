-- Continuations and their jobs. The hash of a job has a field w:<continuation id> for each continuation that is bound to it, in
-- any state. Once there is a result, the hash also has `result` and `digest`.

-- Whether any continuation is bound to a job.
local function is_awaited(job)
  for _, field in ipairs(redis.call('HKEYS', job)) do
    if string.sub(field, 1, 2) == 'w:' then return true end
  end
  return false
end

-- Remove a continuation from its job. With the last one, the result is dropped. But a result becomes unclaimed when others may
-- share it, or when it came after the continuation was settled (then a retry will ask for it). Gives the digest of the result,
-- or "". `record` has `job_id` and `facts`; unless the continuation waits for its outcome, it also has `own`.
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
