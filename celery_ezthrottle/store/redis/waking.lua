-- STORED, SUBMITTED, or with an outcome that is replaced → DELIVERED. The caller sets when it is due.
-- `...` are more fields and values to write, in the same call.
local function wake(id, record, now, ...)
  if record.state == 'stored' then leave_stored(id) end
  redis.call('HSET', continuation_key(id), 'state', 'delivered', 'delivered_at', now, ...)
  record.state = 'delivered'
end

-- PARKED → DELIVERED with the outcome of the caller. Gives the id of the task's newest continuation, or false.
local function cancel_newest(task_id, result, now)
  local task = read(task_key(task_id), 'c')
  if not task then return false end
  local record = read(continuation_key(task.c), 'state', 'own', 'facts')
  if not record or record.own == 'cancelled' or not (is_waiting(record) or is_delivered(record)) then return false end

  wake(task.c, record, now, 'result', result, 'own', 'cancelled')
  schedule(task.c, now, record)
  return task.c
end
