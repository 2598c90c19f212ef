-- ARGV: continuation id, run, new end of its lease. Gives 1 when the run holds it, else 0.
local id, run, ends = unpack(ARGV)
local record = read(continuation_key(id), 'state', 'run')
if not record or record.state ~= 'running' or record.run ~= run or is_closed(run) then return 0 end

redis.call('ZADD', DUE, 'XX', 'GT', ends, id) -- XX: a continuation without a lease is not in the set
return 1
