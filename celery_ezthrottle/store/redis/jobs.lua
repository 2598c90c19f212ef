-- Continuations and their jobs. The hash of a job has a field w:<continuation id> for each continuation that is bound to it, in
-- any state. Once there is a result, the hash also has `result` and `digest`. It may have many thousands of fields, so no act
-- looks at all of them.

-- A field of a job whose result has not reached all its waiters yet (see crowds.lua). Versions that do not know it take it for a
-- waiter, and keep the result.
local LEFT = 'w:'

local function left_key(job_id) return PREFIX .. 'w:' .. job_id end

-- How many continuations are bound to a job; 0 or less for none. `digest` is that of its result, or "". (Its other fields are
-- `v`, `result` and `digest`. It has `unclaimed` only when none is bound.)
local function bound_to(job_id, digest) return redis.call('HLEN', job_key(job_id)) - (digest == '' and 1 or 3) end

-- No continuation is bound to the job any more. Its result is dropped, unless it is kept as unclaimed.
local function drop_result(job_id, digest, is_kept)
  local key = job_key(job_id)
  if digest ~= '' and is_kept then
    add_unclaimed(job_id, redis.call('HSTRLEN', key, 'result'), server_time())
  else
    redis.call('DEL', key)
  end
end

-- Remove a continuation from its job. With the last one, the result is dropped. But a result becomes unclaimed when others may
-- share it, or when it came after the continuation was settled (then a retry will ask for it). Gives the digest of the result,
-- or "". `record` has `job_id` and `facts`; unless the continuation waits for its outcome, it also has `own`.
local function unbind(id, record)
  local job_id = record.job_id
  local job = read(job_key(job_id), 'digest', LEFT)
  if not job then return '' end
  redis.call('HDEL', job_key(job_id), 'w:' .. id)
  if job[LEFT] ~= '' then redis.call('HDEL', left_key(job_id), 'w:' .. id) end
  if bound_to(job_id, job.digest) <= 0 then
    drop_result(job_id, job.digest, is_shared(record) or record.own == 'settled')
  end
  return job.digest
end
