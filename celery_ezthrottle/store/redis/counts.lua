-- Gives the fields of Counts, in their order.
prune_unclaimed(server_time())
local unclaimed = redis.call('ZCARD', UNCLAIMED)
local counted = redis.call('HMGET', COUNTERS, 'unclaimed_bytes', 'evicted', 'repeated', 'contradicting')
return {redis.call('ZCARD', DUE), unclaimed, unclaimed > 0 and counted[1] or 0, counted[2] or 0, counted[3] or 0, counted[4] or 0}
