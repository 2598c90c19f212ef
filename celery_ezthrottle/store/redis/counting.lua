local COUNTERS = PREFIX .. 'counters' -- hash: repeated, contradicting, evicted, unclaimed_bytes

local function count(name, by)
  local total = redis.call('HINCRBY', COUNTERS, name, string.format('%d', by)) -- %d, because Lua writes minus zero as -0
  redis.call('EXPIRE', COUNTERS, GRACE)
  return total
end
