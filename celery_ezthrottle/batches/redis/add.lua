-- ARGV: id, patience, then index and text of each member. Gives 1; or 0 when the batch is gone.
local id, patience = ARGV[1], tonumber(ARGV[2])
if redis.call('EXISTS', batch_key(id)) == 0 then return 0 end
redis.call('HSET', members_key(id), unpack(ARGV, 3))
keep(id, patience)
return 1
