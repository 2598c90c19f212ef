-- ARGV: buckets, ticket, key of the bucket whose queue it is, what its priority is worth, lease, lifetime.
-- A ticket that waited before keeps its place. Gives 1.
local buckets, ticket, key, worth, lease, lifetime = unpack(ARGV)
local record = ticket_key(ticket)
local score, queued = unpack(redis.call('HMGET', record, 'score', 'key'))
score = score or NOW - worth
if queued and queued ~= key then redis.call('ZREM', queue_key(queued), ticket) end
redis.call('HSET', record, 'buckets', buckets, 'key', key, 'lease', lease, 'score', score, 'lifetime', lifetime)
keep(record, lifetime)
enqueue(ticket, key, score, lifetime)
return 1
