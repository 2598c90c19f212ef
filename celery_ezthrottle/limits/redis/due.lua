-- ARGV: limit, lead or -1 for the time that tickets need to come. Calls the tickets whose turn comes within `lead`. Gives {the
-- present time, the time at which the next one may be due or -1, ticket, time of its turn, ...}.
local limit, lead = tonumber(ARGV[1]), tonumber(ARGV[2])
if lead < 0 then lead = time_to_come() end
local LOOK_AGAIN = 50e3 -- when nobody knows when a queue goes on
local COMING = 1e6 -- for so long who is called keeps a place of `concurrency` from newcomers

for _, ticket in ipairs(redis.call('ZRANGEBYSCORE', CALLED, '-inf', NOW, 'LIMIT', 0, limit)) do forget(ticket) end

local firsts, moved, found = {}, {}, {NOW, -1}
local function look_at(key)
  local first = redis.call('ZRANGE', queue_key(key), 0, 0, 'WITHSCORES')
  firsts[key] = first[1] and {ticket = first[1], score = tonumber(first[2])}
  if not first[1] then redis.call('ZREM', QUEUES, key) end
end
local keys = redis.call('ZRANGEBYSCORE', QUEUES, '-inf', NOW + lead, 'LIMIT', 0, limit)
for _, key in ipairs(keys) do look_at(key) end

while #found < 2 + 2 * limit do
  local key -- of the queue whose first ticket is the first of all
  for _, each in ipairs(keys) do
    if firsts[each] and not (key and firsts[key].score <= firsts[each].score) then key = each end
  end
  if not key then break end

  local ticket, score = firsts[key].ticket, firsts[key].score
  local buckets, lease, lifetime = unpack(redis.call('HMGET', ticket_key(ticket), 'buckets', 'lease', 'lifetime'))
  local at, by
  if buckets then
    buckets = cjson.decode(buckets)
    read(buckets)
    at, by = first_turn(buckets, ticket)
  end
  if not buckets then -- its lifetime is over
    redis.call('ZREM', queue_key(key), ticket)
    look_at(key)
  elseif at and at - NOW <= lead then
    take(buckets, ticket, at, math.min(lease, COMING))
    redis.call('ZREM', queue_key(key), ticket)
    redis.call('HSET', ticket_key(ticket), 'at', at, 'called', NOW)
    redis.call('ZADD', CALLED, at + lease, ticket)
    keep(CALLED, at + lease - NOW)
    keep(state_key(key), at + lease - NOW) -- which has the mark by which acquire() finds that it was called
    keep(ticket_key(ticket), at + lease - NOW)
    table.insert(found, ticket)
    table.insert(found, at)
    look_at(key)
  elseif by ~= key and not moved[ticket] then
    moved[ticket] = true
    redis.call('ZREM', queue_key(key), ticket)
    redis.call('HSET', ticket_key(ticket), 'key', by)
    enqueue(ticket, by, score, lifetime)
    look_at(key)
  else
    redis.call('ZADD', QUEUES, at or NOW + lead + LOOK_AGAIN, key)
    firsts[key] = nil
  end
end

local next_look = redis.call('ZRANGE', QUEUES, 0, 0, 'WITHSCORES')[2]
if next_look then found[2] = math.max(NOW, tonumber(next_look) - lead) end
return found
