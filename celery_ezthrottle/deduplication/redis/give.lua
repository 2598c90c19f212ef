-- ARGV: name of a leader, its answer, patience. Gives 1.
local name, answer, patience = unpack(ARGV)
redis.call('SET', answer_key(name), answer, 'PX', patience)
return 1
