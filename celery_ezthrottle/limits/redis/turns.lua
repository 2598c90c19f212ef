-- When a call may pass all its buckets, and what is written down when it does.

local SLOW = 10 -- after a cool-down, grants come evenly for the time of so many

-- Read what is kept of the buckets besides their windows. Gives whether there is, or was, a line before one of them: tickets that
-- wait in its queue, or were called out of it. `tat` is the time at which the next grant would come if all came evenly (GCRA).
local function read(buckets)
  local line = false
  for _, bucket in ipairs(buckets) do
    local state = redis.call('HMGET', state_key(bucket.key), 'tat', 'cool', 'paused', 'line')
    bucket.tat, bucket.cool = tonumber(state[1]) or 0, tonumber(state[2]) or 0
    bucket.slow_until = state[2] and bucket.cool + SLOW * bucket.interval or 0
    bucket.paused, bucket.line = state[3], state[4]
    line = line or state[4]
  end
  return line
end

-- The first time at which a call may pass all its buckets, and the key of the bucket that put it off to then; nil and the key of
-- a bucket when nobody knows. The buckets were read().
local function first_turn(buckets, ticket)
  local at, by, windows = NOW, nil, {}
  for _, bucket in ipairs(buckets) do
    if bucket.paused then return nil, bucket.key end
    if bucket.concurrency then
      local leases = leases_key(bucket.key)
      redis.call('ZREMRANGEBYSCORE', leases, '-inf', NOW)
      if redis.call('ZCARD', leases) >= bucket.concurrency and not redis.call('ZSCORE', leases, ticket) then
        return nil, bucket.key
      end
    end
    local opens = math.max(NOW, bucket.cool)
    if opens < bucket.slow_until then opens = math.max(opens, math.min(bucket.tat, bucket.slow_until)) end
    if bucket.burst then opens = math.max(opens, bucket.tat - (bucket.burst - 1) * bucket.interval) end
    if opens > at then at, by = opens, bucket.key end
    for _, window in ipairs(bucket.windows) do
      window.by = bucket.key
      windows[#windows + 1] = window
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
      keep(state, tat - NOW)
    end
    if bucket.concurrency then
      redis.call('ZADD', leases_key(bucket.key), at + lease, ticket)
      keep(leases_key(bucket.key), at + lease - NOW)
    end
  end
end

-- The call of a turn was not sent, and will not be. The buckets were read(). With `burst` the even grants are a promise, and what
-- was given back could let through one more than that: there the turn is lost.
local function return_turn(buckets, at)
  give_back(buckets, at)
  for _, bucket in ipairs(buckets) do
    if bucket.tat > 0 and not bucket.burst and at < bucket.slow_until then
      bucket.tat = bucket.tat - bucket.interval
      redis.call('HSET', state_key(bucket.key), 'tat', bucket.tat)
    end
  end
end
