-- Claim the next members: as many as there is room for in flight, and `most`. Gives {index, line and message, ...}.
local function release(id, most, lease)
  local room, following, total = unpack(redis.call('HMGET', batch_key(id), 'in_flight', 'next', 'total'))
  local found = {}
  if not room or redis.call('EXISTS', members_key(id)) == 0 then return found end
  local number = math.min(most, room - redis.call('ZCARD', flight_key(id)), total - following)
  for index = following, following + number - 1 do
    set_state(id, index, 'c')
    redis.call('ZADD', flight_key(id), NOW + lease, index)
    table.insert(found, index)
    table.insert(found, redis.call('HGET', members_key(id), index))
  end
  if number > 0 then
    redis.call('HINCRBY', batch_key(id), 'next', number)
    redis.call('PEXPIRE', flight_key(id), redis.call('PTTL', batch_key(id)))
  end
  return found
end
