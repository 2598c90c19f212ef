-- ARGV: result, now, due again at, limit. Gives {the time of the next turn or "", the fields of a Claim for each ...}.
local result, now, due, limit = unpack(ARGV)
local claims = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', TURNS, '-inf', now, 'LIMIT', 0, limit)) do
  redis.call('ZREM', TURNS, id) -- a record of another version is left to a sweep of that version
  local record = read_claim(id)
  if record and record.state == 'stored' then
    record.job = ''
    wake(id, record, now, 'result', result, 'own', 'settled')
    claims[#claims + 1] = claim(id, record, due)
  end
end
local following = redis.call('ZRANGE', TURNS, 0, 0, 'WITHSCORES')
return {following[2] or '', unpack(claims)}
