-- ARGV: now, due again at, limit. Gives a list of the fields of Claims.
local now, due, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local found, passed = {}, 0

-- Those found stay where they are until the search ends, so that no one is found twice.
while #found < limit do
  local ids = redis.call('ZRANGEBYSCORE', DUE, '-inf', now, 'LIMIT', #found + passed, limit - #found)
  if #ids == 0 then break end
  for _, id in ipairs(ids) do
    local key = continuation_key(id)
    local record = read(key, 'state')
    if record and (is_waiting(record) or is_delivered(record)) then
      found[#found + 1] = id
    elseif is_foreign(key) then
      passed = passed + 1 -- due for somebody who knows its version
    else
      redis.call('ZREM', DUE, id)
    end
  end
end

local claims = {}
for i, id in ipairs(found) do claims[i] = claim(id, due) end
return claims
