-- ARGV: owner.
local key = PREFIX .. 'leader'
if redis.call('HGET', key, 'owner') == ARGV[1] then redis.call('DEL', key) end
