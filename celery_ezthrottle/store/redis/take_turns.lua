-- ARGV: result, now, due again at, limit. Gives {the time of the next turn or "", the fields of a Claim for each ...}.
local result, now, due, limit = unpack(ARGV)
local claims = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', TURNS, '-inf', now, 'LIMIT', 0, limit)) do
  claims[#claims + 1] = take_turn(id, result, now, due)
end
local following = redis.call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')
return {following[2] or '', unpack(claims)}
