-- STORED, SUBMITTED, or with an outcome that is overridden → DELIVERED; when it is due is for the caller to say.
-- What else has to be written goes into the same call.
local function wake(id, record, now, ...)
  if record.state == 'stored' then leave_stored(id) end
  redis.call('HSET', continuation_key(id), 'state', 'delivered', 'delivered_at', now, ...)
  record.state = 'delivered'
end
