-- ARGV: continuation id, due, 1 when the submission may have been taken.
local id, due, maybe = unpack(ARGV)
local key = continuation_key(id)
local record = read(key, 'state', 'facts', 'open')
if not record or record.state ~= 'stored' then return end

redis.call('HINCRBY', key, 'attempts', 1)
if maybe ~= '1' then redis.call('HSET', key, 'open', math.max(open_of(record) - 1, 0)) end
schedule(id, due, record)
