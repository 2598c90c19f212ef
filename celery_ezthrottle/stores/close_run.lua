-- ARGV: run. Gives 1 when the run suspended its task; else the run is closed, and 0.
local key = run_key(ARGV[1])
if redis.call('GET', key) == SUSPENDED then return 1 end

redis.call('SET', key, CLOSED, 'EX', LATE)
return 0
