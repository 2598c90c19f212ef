-- STORED, SUBMITTED, or with an outcome that is overridden → DELIVERED; when it is due is for the caller to say.
-- What else has to be written goes into the same call.
local function wake(id, record, now, ...)
  local key = continuation_key(id)
  if record.state == 'stored' then redis.call('HDEL', key, 'job', 'open') end
  redis.call('HSET', key, 'state', 'delivered', 'delivered_at', now, ...)
  record.state = 'delivered'
end
