-- Limits that are changed at run time. The state of a pattern's bucket has what holds for all buckets of the pattern, also where
-- `per` splits it: `paused`, `resumed`, and `live`: a bucket as JSON, whose numbers take the place of those that callers bring.
-- So a change holds at once for all who ask, and for the tickets that wait, whatever numbers these had when they came.

local CHANGED = HOME .. 'live' -- hash: patterns to their limits as text, from which processes learn what was changed
local FOR_GOOD = 10 * 365 * 24 * 3600e6 -- until somebody changes it back

-- The pattern of a bucket that `per` has split off, else nil. (A host whose limit is learned is no pattern.)
local function pattern_of(key)
  local split = string.find(key, '#', 1, true)
  return split and string.byte(key) ~= 126 and string.sub(key, 1, split - 1) or nil
end

-- The bucket that stands in `live`, with the lists of the bucket `key`.
local function live_bucket(live, key)
  local bucket = cjson.decode(live)[1]
  local head = #HOME + #'w:' + #bucket.key
  for _, window in ipairs(bucket.windows) do window.list = HOME .. 'w:' .. key .. window.list:sub(head + 1) end
  bucket.key = key
  return bucket
end

-- What was set for a bucket, or false.
local function set_for(key) return redis.call('HGET', state_key(pattern_of(key) or key), 'live') end

-- The grants after `since` that the lists of some windows know of: times, the newest first, and how many grants each time stands
-- for. A grant that several lists know is counted once.
local function grants(windows, since)
  local times, weights = {}, {}
  for _, window in ipairs(windows) do
    local here, weight = {}, window.group > 1 and tonumber(redis.call('GET', filled_key(window)) or 0) or 1
    for _, at in ipairs(redis.call('LRANGE', window.list, 0, -1)) do
      at = tonumber(at)
      if at > since then here[at] = (here[at] or 0) + weight end
      weight = window.group -- only the newest group may have room
    end
    for at, counted in pairs(here) do
      if not weights[at] then times[#times + 1] = at end
      weights[at] = math.max(weights[at] or 0, counted)
    end
  end
  table.sort(times, function(one, other) return one > other end)
  return times, weights
end

-- Let a window know the grants that the lists of others know.
local function carry_over(windows, window)
  local times, weights = grants({window, unpack(windows)}, NOW - window.length)
  local entries, room = {}, 0 -- room: how many more grants belong to the last entry
  for _, at in ipairs(times) do
    local left = math.max(0, weights[at] - room)
    room = math.max(0, room - weights[at])
    while left > 0 and #entries < window.count + SPARE do
      entries[#entries + 1] = at
      room, left = math.max(0, window.group - left), left - window.group
    end
  end
  redis.call('DEL', window.list)
  if not entries[1] then return end
  for first = 1, #entries, 1000 do -- unpack() has a limit
    redis.call('RPUSH', window.list, unpack(entries, first, math.min(first + 999, #entries)))
  end
  if window.group > 1 then redis.call('SET', filled_key(window), #entries == 1 and window.group - room or window.group) end
  outlive(window, entries[1])
end

-- Give a bucket the numbers that hold for it now. `live`: those that were set, or false. `was`: the same when the bucket was last
-- used; if that differs, its windows take over what is known of the grants so far.
local function follow(bucket, live, was)
  if not live and not was then
    with_what_was_learned(bucket)
    return
  end
  local before = was and live_bucket(was, bucket.key)
    or {key = bucket.key, windows = bucket.windows, interval = bucket.interval, learns = bucket.learns}
  if live then
    local set = live_bucket(live, bucket.key)
    for _, name in ipairs({'windows', 'burst', 'concurrency', 'interval', 'learns'}) do bucket[name] = set[name] end
    if bucket.has_place then bucket.concurrency = nil end
  end
  local state = state_key(bucket.key)
  if live == was then
    with_what_was_learned(bucket)
  else
    local known = {}
    before = with_what_was_learned(before).windows
    redis.call('DEL', learned_key(bucket.key)) -- an adaptive limit begins with the rate that it was given
    with_what_was_learned(bucket)
    for _, window in ipairs(before) do known[window.list] = true end
    for _, window in ipairs(bucket.windows) do
      if not known[window.list] then carry_over(before, window) end
    end
    local used_up = NOW + (bucket.burst or 1) * bucket.interval
    if bucket.tat > used_up then -- it was slower before
      bucket.tat = used_up
      redis.call('HSET', state, 'tat', used_up)
    end
    if live then redis.call('HSET', state, 'was', live) else redis.call('HDEL', state, 'was') end
  end
  if live then -- `was` lives as long as the lists that it tells of
    local longest = KNOWN_FOR
    for _, window in ipairs(bucket.windows) do longest = math.max(longest, window.length) end
    keep(state, longest)
  end
end
