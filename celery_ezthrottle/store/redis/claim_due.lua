-- ARGV: now, due again at, limit. Gives a list of the fields of Claims.
local now, due, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local claims, found, passed = {}, {}, 0

-- A delivery that is not complete. It gets one half, so that the rest of what is due does not wait for a large crowd.
local job_id = redis.call('SRANDMEMBER', WAKING)
if job_id then wake_left(job_id, math.ceil(limit / 2), now, due, claims) end
limit = limit - #claims

-- Nothing is claimed until the search ends: the order of the set stays the same, so no continuation is found twice.
while #found < limit do
  local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', #found + passed, limit - #found)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local record, foreign = read_claim(id)
    if record and record.state ~= 'done' then
      found[#found + 1] = {id, record}
    elseif foreign then
      passed = passed + 1 -- it stays due, for a process that knows its version
    else
      redis.call('ZREM', DUE, id)
    end
  end
end

for _, pair in ipairs(found) do claims[#claims + 1] = claim(pair[1], pair[2], due) end
return claims
