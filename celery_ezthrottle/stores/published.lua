-- ARGV: continuation id, due.
local id, due = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'deadline')
if not record or not is_delivered(record) then return end

redis.call('HSET', key, 'state', 'published')
redis.call('HINCRBY', key, 'publications', 1)
schedule(id, due, record.deadline)
