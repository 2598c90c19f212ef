local COUNTERS = PREFIX .. 'counters' -- hash: repeated, contradicting, evicted, unclaimed_bytes

local function count(name, by)
  local total = redis.call('HINCRBY', COUNTERS, name, string.format('%d', by)) -- minus nothing would read -0
  redis.call('EXPIRE', COUNTERS, GRACE)
  return total
end
