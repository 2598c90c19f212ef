-- ARGV: id, seconds until a sweep asks what became of them, then indexes. Their messages are with the broker.
local id, wait = ARGV[1], tonumber(ARGV[2])
for number = 3, #ARGV do
  local index = ARGV[number]
  drop_message(id, index)
  if state_of(id, index) == 'c' then -- otherwise it has ended already
    set_state(id, index, 'p')
    redis.call('ZADD', flight_key(id), NOW + wait, index)
  end
end
return 1
