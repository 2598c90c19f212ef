-- When a call may pass all its buckets, and what is written down when it does.

-- Whether a bucket has a lease for a ticket, or the ticket holds one.
local function has_lease(bucket, ticket)
  local leases = leases_key(bucket.key)
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', now())
  return redis.call('ZCARD', leases) < bucket.concurrency or redis.call('ZSCORE', leases, ticket)
end

local SLOW = 10 -- after a cool-down, grants come evenly for the time of so many

-- The time from which a bucket lets a call through, its windows aside; nil when nobody knows. `tat` is the time at which the next
-- grant would come if all came evenly (GCRA).
local function opens_at(bucket, ticket)
  local state = redis.call('HMGET', state_key(bucket.key), 'tat', 'cool', 'paused')
  if state[3] or bucket.concurrency and not has_lease(bucket, ticket) then return nil end
  local tat, cool = tonumber(state[1]) or 0, tonumber(state[2])
  local at = cool and math.max(now(), cool) or now()
  bucket.slow_until = cool and cool + SLOW * bucket.interval or 0
  if at < bucket.slow_until then at = math.max(at, math.min(tat, bucket.slow_until)) end
  if bucket.burst then at = math.max(at, tat - (bucket.burst - 1) * bucket.interval) end
  bucket.tat = tat
  return at
end

-- The first time at which a call may pass all its buckets, and the key of the bucket that put it off to then; nil and the key of
-- a bucket when nobody knows.
local function first_turn(buckets, ticket)
  local at, by, windows = now(), nil, {}
  for _, bucket in ipairs(buckets) do
    local opens = opens_at(bucket, ticket)
    if not opens then return nil, bucket.key end
    if opens > at then at, by = opens, bucket.key end
    for _, window in ipairs(bucket.windows) do
      window.by = bucket.key
      table.insert(windows, window)
    end
  end
  local i, asked = 0, #windows -- asked: the windows that have not said yet whether `at` suits them
  while asked > 0 do
    i, asked = i % #windows + 1, asked - 1
    local fits = fit(windows[i], at)
    if fits > at then at, by, asked = fits, windows[i].by, #windows - 1 end
  end
  return at, by
end

-- Write down the turn that first_turn() has found.
local function take(buckets, ticket, at, lease)
  for _, bucket in ipairs(buckets) do
    for _, window in ipairs(bucket.windows) do record(window, at) end
    if bucket.burst or at < bucket.slow_until then
      local state, tat = state_key(bucket.key), math.max(bucket.tat, at) + bucket.interval
      redis.call('HSET', state, 'tat', tat)
      keep(state, tat - now())
    end
    if bucket.concurrency then
      redis.call('ZADD', leases_key(bucket.key), at + lease, ticket)
      keep(leases_key(bucket.key), at + lease - now())
    end
  end
end
