-- RUNNING → DONE: a mark stays. `record` has `job_id` and `facts`. The mark has the digest of the result, for a delivery that
-- comes again. (The record is dropped first, because a large hash that shrinks stays large.)
local function finish(id, record)
  local key = continuation_key(id)
  local digest = unbind(id, record)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', VERSION, 'state', 'done', 'job_id', record.job_id, 'digest', digest)
  redis.call('EXPIRE', key, REMEMBERED)
  redis.call('ZREM', DUE, id)
end

-- The task has ended: a mark stays. `task` has `forwards` and `c`.
local function end_task(id, task, retries)
  local key = task_key(id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', VERSION, 'forwards', task.forwards, 'c', task.c, 'ended', retries)
  redis.call('EXPIRE', key, REMEMBERED)
end
