-- ARGV: run. Gives 1 when the run suspended its task, and notes that this was told; else closes the run and gives 0.
local key = run_key(ARGV[1])
local known = redis.call('GET', key)
local suspended = known == SUSPENDED or known == TOLD
redis.call('SET', key, suspended and TOLD or CLOSED, 'EX', LATE)
return suspended and 1 or 0
