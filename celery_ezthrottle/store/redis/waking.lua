-- STORED, SUBMITTED, or with an outcome that is replaced → DELIVERED. The caller sets when it is due.
-- `...` are more fields and values to write, in the same call.
local function wake(id, record, now, ...)
  if record.state == 'stored' then leave_stored(id) end
  redis.call('HSET', continuation_key(id), 'state', 'delivered', 'delivered_at', now, ...)
  record.state = 'delivered'
end
