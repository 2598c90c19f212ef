-- Limits that nobody has told: what an API was seen to allow. All calls that succeed are counted. When one is limited, the API has
-- allowed as many as have succeeded within the time for which it then asks to wait: so many are let through in each such time.
-- While none is limited and most turns are used, more are tried: one after a while, then two more, four, and so on.

local KNOWN_FOR = 600e6 -- microseconds after the last call for which that is remembered
local QUIET = 5 -- windows without a limited call after which more is tried
local MOSTLY = 0.8 -- share of the turns that must be used for that

local function learned_key(bucket) return HOME .. 'a:' .. bucket end -- hash: count, length, since, grown, step
local function successes_key(bucket) return HOME .. 's:' .. bucket end -- sorted set: tickets by the time of their success

-- Give a bucket that learns the window that was learned. Gives the buckets.
local function with_what_was_learned(buckets)
  for _, bucket in ipairs(buckets) do
    if bucket.learns then
      local count, length = unpack(redis.call('HMGET', learned_key(bucket.key), 'count', 'length'))
      if count then
        local list = HOME .. 'w:' .. bucket.key .. ':learned'
        bucket.windows = {{list = list, count = tonumber(count), length = tonumber(length), group = 1}}
        bucket.interval = tonumber(length) / tonumber(count)
      end
    end
  end
  return buckets
end

-- Number of calls that have succeeded in the last `length` microseconds.
local function succeeded_in(bucket, length)
  local successes = successes_key(bucket)
  redis.call('ZREMRANGEBYSCORE', successes, '-inf', NOW - length)
  return redis.call('ZCARD', successes)
end
