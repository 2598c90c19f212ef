-- ARGV: identity, name of the leader. Gives its answer; 1 while that may come; 0 when none comes.
local identity, leader = unpack(ARGV)
local answer = redis.call('GET', answer_key(leader))
if answer and answer ~= '' then return answer end
if answer or redis.call('HGET', way_key(identity), 'leader') == leader then return 1 end
return 0
