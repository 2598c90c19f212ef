-- Note that members of a batch have ended. The fields are those that count them: ended, and failed or revoked.
local function count_ended(id, number, field)
  local ended = redis.call('HINCRBY', batch_key(id), 'ended', number)
  if field then redis.call('HINCRBY', batch_key(id), field, number) end
  local total, lifetime = unpack(redis.call('HMGET', batch_key(id), 'total', 'lifetime'))
  local over = ended >= tonumber(total)
  if over then redis.call('ZREM', OPEN, id) end
  if over or redis.call('PTTL', batch_key(id)) < lifetime * 500 then keep(id, tonumber(lifetime)) end
end
