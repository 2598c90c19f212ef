-- ARGV: id, index, letter of its end, most, lease. A member has ended, and the next ones are claimed. Safe to repeat. Gives what
-- release.lua gives.
local id, index, letter, most, lease = unpack(ARGV)
local state = state_of(id, index)
if state == 'c' or state == 'p' then
  set_state(id, index, letter)
  redis.call('ZREM', flight_key(id), index)
  drop_message(id, index)
  count_ended(id, 1, ({f = 'failed', r = 'revoked'})[letter])
end
return release(id, tonumber(most), tonumber(lease))
