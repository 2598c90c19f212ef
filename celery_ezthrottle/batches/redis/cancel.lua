-- ARGV: id, 1 to give up what is in flight too. Ends all members that wait. Gives the indexes of those that have waited, and of those
-- that were in flight.
local id, all = ARGV[1], ARGV[2] == '1'
local following, total = unpack(redis.call('HMGET', batch_key(id), 'next', 'total'))
local waiting, given_up = {}, {}
if not total then return {waiting, given_up} end
for index = following, total - 1 do table.insert(waiting, index) end
if #waiting > 0 then
  redis.call('SETRANGE', states_key(id), following, string.rep('r', #waiting))
  redis.call('HSET', batch_key(id), 'next', total)
end
if all then
  for _, index in ipairs(redis.call('ZRANGE', flight_key(id), 0, -1)) do
    set_state(id, index, 'r')
    table.insert(given_up, tonumber(index))
  end
  redis.call('DEL', flight_key(id))
end
if #waiting + #given_up > 0 then count_ended(id, #waiting + #given_up, 'revoked') end
return {waiting, given_up}
