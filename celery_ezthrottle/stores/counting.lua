local COUNTERS = PREFIX .. 'counters' -- hash: repeated, contradicting, evicted, unclaimed_bytes

local function count(name, by)
  local total = redis.call('HINCRBY', COUNTERS, name, by)
  redis.call('EXPIRE', COUNTERS, GRACE)
  return total
end
