-- When a call may pass all its buckets, and what is written down when it does.

local SLOW = 10 -- after a cool-down, grants come evenly for the time of so many

-- Read what is kept of the buckets besides their windows, and give them the numbers that hold now. Gives whether there is, or was,
-- a line before one of them: tickets that wait in its queue, or were called out of it. `tat` is the time at which the next grant
-- would come if all came evenly (GCRA).
local function read(buckets)
  local line = false
  for _, bucket in ipairs(buckets) do
    local state = redis.call('HMGET', state_key(bucket.key), 'tat', 'cool', 'paused', 'line', 'steep', 'was', 'live')
    local cool, paused_until, steep, live = tonumber(state[2]) or 0, tonumber(state[3]) or 0, state[5], state[7]
    local pattern = pattern_of(bucket.key)
    if pattern then
      local of_all = redis.call('HMGET', state_key(pattern), 'resumed', 'paused', 'live')
      local resumed = tonumber(of_all[1]) or 0
      if resumed > cool then cool, steep = resumed, false end
      paused_until, live = math.max(paused_until, tonumber(of_all[2]) or 0), of_all[3]
    end
    bucket.tat, bucket.cool, bucket.line, bucket.paused = tonumber(state[1]) or 0, cool, state[4], paused_until > NOW
    if live or state[6] then follow(bucket, live, state[6]) elseif bucket.learns then with_what_was_learned(bucket) end
    bucket.slow_until = cool > 0 and not steep and cool + SLOW * bucket.interval or 0
    line = line or state[4]
  end
  return line
end

-- Whether a bucket has no place for one more call. Who was called and has not come yet keeps a place only from those behind it:
-- its message may be in a long queue of the broker, and who comes now, ahead of newcomers, need not wait for that.
local function is_full(bucket, ticket, goes_first)
  local leases = leases_key(bucket.key)
  redis.call('ZREMRANGEBYSCORE', leases, '-inf', NOW)
  if redis.call('ZCARD', leases) < bucket.concurrency then return false end
  if not goes_first then return not redis.call('ZSCORE', leases, ticket) end
  local others = 0
  for _, each in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
    if each ~= ticket and not redis.call('ZSCORE', CALLED, each) then others = others + 1 end
  end
  return others >= bucket.concurrency
end

-- The first time at which a call may pass all its buckets, and the key of the bucket that put it off to then; nil and the key of
-- a bucket when nobody knows. The buckets were read().
local function first_turn(buckets, ticket, goes_first)
  local at, by, windows = NOW, nil, {}
  for _, bucket in ipairs(buckets) do
    if bucket.paused then return nil, bucket.key end
    if bucket.concurrency and is_full(bucket, ticket, goes_first) then return nil, bucket.key end
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

-- Let a call count for `concurrency` until then.
local function take_place(bucket, ticket, ends)
  redis.call('ZADD', leases_key(bucket.key), ends, ticket)
  keep(leases_key(bucket.key), ends - NOW)
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
    if bucket.concurrency then take_place(bucket, ticket, at + lease) end
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
