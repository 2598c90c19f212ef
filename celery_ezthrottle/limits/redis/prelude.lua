-- Shared by the scripts of the limiter. KEYS[1] is the prefix of all keys; its hash tag puts all keys into one slot. A bucket is
-- what encoding.py writes. Times and durations are whole microseconds, times by the clock of this server: such a number is exact
-- in Lua, and takes ten bytes in a list.

local HOME = KEYS[1] .. 'l:'
local GRACE = 60e3 -- milliseconds for which a key outlives its use

local function state_key(bucket) return HOME .. 'b:' .. bucket end -- hash: tat, cool, steep (grants need not come slowly after it),
--                                                                      paused, line, and what is in live.lua
local function leases_key(bucket) return HOME .. 'c:' .. bucket end -- sorted set: tickets by the end of their lease
local function queue_key(bucket) return HOME .. 'q:' .. bucket end -- sorted set: tickets by arrival and priority
local function ticket_key(ticket) return HOME .. 't:' .. ticket end -- hash: buckets, key, lease, score; at once it is called
local QUEUES = HOME .. 'queues' -- sorted set: buckets with a queue, by the time at which their first ticket may have its turn
local CALLED = HOME .. 'called' -- sorted set: called tickets, by the time at which they are given up

-- An act has one time: Redis before 7.2 does not stop its clock meanwhile.
local time = redis.call('TIME')
local NOW = time[1] * 1e6 + time[2]

-- Let a key live for so long and GRACE, or longer. (The PTTL of one without a lifetime is -1: shorter than any.)
local function keep(key, duration)
  local lifetime = math.max(0, math.ceil(duration / 1e3)) + GRACE
  if redis.call('PTTL', key) < lifetime then redis.call('PEXPIRE', key, lifetime) end
end
