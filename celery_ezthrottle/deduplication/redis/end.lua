-- ARGV: identity, name of a leader, whether it has an answer, patience. Its call has ended: the next one of its kind begins anew.
-- Gives 1 if its answer is waited for.
local identity, name, has_answer, patience = unpack(ARGV)
local key = way_key(identity)
local found = redis.call('HMGET', key, 'leader', 'followers')
if found[1] ~= name then return 0 end
redis.call('DEL', key)
if not found[2] or has_answer ~= '1' then return 0 end
redis.call('SET', answer_key(name), '', 'PX', patience)
return 1
