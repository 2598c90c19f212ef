-- A crowd: more waiters than one act wakes. When the result of their job comes, the hash of the job is renamed: it lists those
-- that are left. A new hash takes its place. Each act wakes some, and moves them to the new hash. The job stays in a set until
-- nobody is left, so that a sweep goes on when the process that delivers dies.

local CROWD = 50
local WAKING = PREFIX .. 'waking' -- set: ids of jobs

-- The result of a job with a crowd has come, and is not stored yet.
local function set_crowd_aside(job_id)
  local key, left = job_key(job_id), left_key(job_id)
  redis.call('RENAME', key, left)
  redis.call('HDEL', left, 'v')
  redis.call('HSET', key, 'v', VERSION, LEFT, '1')
  local lives = redis.call('PTTL', left)
  redis.call('PEXPIRE', key, lives)
  redis.call('SADD', WAKING, job_id)
  if redis.call('PTTL', WAKING) < lives then redis.call('PEXPIRE', WAKING, lives) end
end

-- Whether a continuation is bound to a job.
local function is_bound(id, job_id)
  local field = 'w:' .. id
  return redis.call('HEXISTS', job_key(job_id), field) == 1 or redis.call('HEXISTS', left_key(job_id), field) == 1
end

-- A continuation is reached by the result of its job.
local function leave_crowd(id, job_id)
  local field = 'w:' .. id
  if redis.call('HDEL', left_key(job_id), field) == 1 then redis.call('HSET', job_key(job_id), field, '') end
end

-- Wake some of those that are left, and add their claims to `claims`. Gives whether any are left.
local function wake_left(job_id, most, now, due, claims)
  local left = left_key(job_id)
  local job, foreign = read(job_key(job_id), 'digest')
  if foreign then return false end -- it stays in the set, for a process that knows its version
  for _, field in ipairs(job and most > 0 and redis.call('HRANDFIELD', left, most) or {}) do
    local id = string.sub(field, 3)
    local record, unknown = read_claim(id)
    if unknown or record and record.state ~= 'done' then leave_crowd(id, job_id) else redis.call('HDEL', left, field) end
    if record and is_waiting(record) then
      wake(id, record, now)
      claims[#claims + 1] = claim(id, record, due)
    end
  end
  if job and redis.call('EXISTS', left) == 1 then return true end

  redis.call('SREM', WAKING, job_id)
  redis.call('DEL', left)
  if job then
    redis.call('HDEL', job_key(job_id), LEFT)
    if bound_to(job_id, job.digest) <= 0 then drop_result(job_id, job.digest, true) end
  end
  return false
end
