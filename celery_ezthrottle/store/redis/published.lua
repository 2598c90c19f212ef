-- ARGV: continuation id, due.
local id, due = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'publications', 'facts')
if not record or not is_delivered(record) then return end

redis.call('HSET', key, 'state', 'published', 'publications', (tonumber(record.publications) or 0) + 1)
schedule(id, due, record)
