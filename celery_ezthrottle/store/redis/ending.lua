-- RUNNING → DONE: a mark stays, with the digest of the result, to compare it with a later delivery. `record` has `job_id`,
-- `facts` and `own`. (The record is deleted first, because a large hash that shrinks keeps its size in memory.)
local function finish(id, record)
  local key = continuation_key(id)
  local digest = unbind(id, record)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', VERSION, 'state', 'done', 'job_id', record.job_id, 'digest', digest)
  redis.call('EXPIRE', key, REMEMBERED)
  redis.call('ZREM', DUE, id)
end

-- RUNNING → DONE, but kept whole, with the journal of its task, while the new continuation of its run may be withdrawn.
-- A continuation that is DONE and has `facts` is kept in this way.
local function set_aside(id, journal)
  redis.call('HSET', continuation_key(id), 'state', 'done', 'journal', journal, 'leased', redis.call('ZREM', DUE, id))
end

-- A continuation leaves STORED and can no longer be withdrawn: the one before it, which it replaces, ends for good.
local function leave_stored(id)
  local key = continuation_key(id)
  local before = redis.call('HGET', key, 'before')
  redis.call('HDEL', key, 'job', 'open', 'before')
  local aside = before and read(continuation_key(before), 'state', 'job_id', 'facts', 'own')
  if aside and aside.state == 'done' and aside.facts ~= '' then finish(before, aside) end
end

-- The task has ended: only a mark stays. `task` has `forwards` and `c`.
local function end_task(id, task, retries)
  local key = task_key(id)
  redis.call('DEL', key)
  redis.call('HSET', key, 'v', VERSION, 'forwards', task.forwards, 'c', task.c, 'ended', retries)
  redis.call('EXPIRE', key, REMEMBERED)
end

-- RUNNING under this run → DONE. The task ends too, unless Celery will run it again. Gives whether the run held it.
local function finish_run(id, run, keep_journal)
  local record = read(continuation_key(id), 'state', 'run', 'job_id', 'facts', 'own')
  if not record or record.state ~= 'running' or record.run ~= run then return false end

  finish(id, record)
  local task_id = task_of(record)
  local task = read(task_key(task_id), 'forwards', 'c')
  if task and keep_journal then
    redis.call('HSET', task_key(task_id), 'retried', retries_of(record))
  elseif task then
    end_task(task_id, task, retries_of(record))
  end
  return true
end
