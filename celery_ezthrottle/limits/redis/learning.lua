-- What an API was seen to allow, for limits that nobody has told or that adapt.
--
-- All calls of such a bucket that succeed are remembered by their turns. When one is limited, the API has allowed as many as
-- have succeeded in the window before it: so many are let through from then on, but never less than half of what was let through
-- before, since one answer may be an accident. Nothing is let through for the time that the API names. Calls that were on their
-- way then say nothing new. While none is limited and all turns are used, more are tried after a while: one, and when it
-- succeeds, more at once, an eighth at most, until one is limited again.
--
-- Some APIs limit single resources, or customers: they answer 429 however few calls we make. That shows when calls are limited
-- again and again at less than half of the rate that was seen to be allowed, between others that succeed. Then the bucket is
-- `loose` for a while: a limited call says nothing about the others.

local KNOWN_FOR = 600e6 -- microseconds after the last call for which what was learned is remembered
local AT_LEAST = 1025e3 -- the window, where nobody has told one
local QUIET = 3 -- windows without a limited call after which more is tried
local COST = 10 -- a limited call lets all others wait: so many times that time must pass before more is tried
local MEMORY = 60e6 -- for so long successes are remembered, or for the length of the window
local MOST = 10000 -- largest count
local ODD, SHARE = 3, 0.2 -- so many odd answers, and such a share of all, make a bucket loose
local TIGHT = 0.75 -- share of limited answers that ends that
local JUDGED = 32 -- so many answers are judged; older ones count half

local function learned_key(bucket) return HOME .. 'a:' .. bucket end -- hash: see learn.lua
local function successes_key(bucket) return HOME .. 's:' .. bucket end -- sorted set: calls by the time of their turn
local function learned_list(bucket) return HOME .. 'w:' .. bucket .. ':learned' end -- as the lists of windows.lua

-- Give a bucket that learns the windows that were learned. Gives the bucket.
local function with_what_was_learned(bucket)
  if not bucket.learns then return bucket end
  local count, length, loose, told = unpack(
    redis.call('HMGET', learned_key(bucket.key), 'count', 'length', 'loose', 'told'))
  if told then
    bucket.windows = cjson.decode(told)
  elseif loose and tonumber(loose) > NOW and not bucket.windows[1] then
    bucket.windows = {}
  elseif count then
    bucket.windows = {{count = tonumber(count), length = tonumber(length)}}
  end
  for i, window in ipairs(bucket.windows) do
    window.list, window.group = learned_list(bucket.key) .. (i > 1 and i or ''), 1
    if i == 1 or window.length / window.count > bucket.interval then
      bucket.interval = math.ceil(window.length / window.count)
    end
  end
  return bucket
end
