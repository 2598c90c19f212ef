-- Shared by the scripts of batches. KEYS[1] is the prefix of all keys; its hash tag puts all keys into one slot. Times are seconds
-- by the clock of this server. A member is named by its index, from 0. Its state is one letter: w it waits, c it is claimed (its
-- message may be on its way), p its message is published, s it has succeeded, f it has failed, r it was revoked.

local HOME = KEYS[1] .. 'g:'
local BATCHES = HOME .. 'batches' -- sorted set: ids of batches by the time at which they were opened
local OPEN = HOME .. 'open' -- sorted set: ids of batches that have not ended, by the time at which a sweep looks at them

local function name_key(name) return HOME .. 'n:' .. name end -- string: id of the newest batch of that name
local function batch_key(id) return HOME .. 'b:' .. id end -- hash: name, total, in_flight, lifetime, next, ended, failed, revoked
local function states_key(id) return HOME .. 's:' .. id end -- string: the letters of all members
local function members_key(id) return HOME .. 'm:' .. id end -- hash: a line for each member, and its message until that is out
local function flight_key(id) return HOME .. 'f:' .. id end -- sorted set: members in flight, by the time of the next look at them

-- An act has one time: Redis before 7.2 does not stop its clock meanwhile.
local time = redis.call('TIME')
local NOW = time[1] + time[2] / 1e6

local function expire(key, seconds) redis.call('PEXPIRE', key, math.ceil(seconds * 1e3)) end

-- Let all keys of a batch live for so long.
local function keep(id, seconds)
  local name = redis.call('HGET', batch_key(id), 'name')
  if redis.call('GET', name_key(name)) == id then expire(name_key(name), seconds) end
  for _, key in ipairs({batch_key(id), states_key(id), members_key(id), flight_key(id)}) do expire(key, seconds) end
  for _, key in ipairs({BATCHES, OPEN}) do
    if redis.call('PTTL', key) < seconds * 1e3 then expire(key, seconds) end
  end
end

local function state_of(id, index) return redis.call('GETRANGE', states_key(id), index, index) end
local function set_state(id, index, state) redis.call('SETRANGE', states_key(id), index, state) end

-- The message of a member is not needed any more.
local function drop_message(id, index)
  local kept = redis.call('HGET', members_key(id), index)
  local line = kept and string.find(kept, '\n', 1, true)
  if line then redis.call('HSET', members_key(id), index, string.sub(kept, 1, line - 1)) end
end

-- What status.lua gives: {id, name, total, ended, failed, revoked, in flight, waiting}, or false when there is no such batch.
local function status_of(id)
  local name, total, ended, failed, revoked, following =
    unpack(redis.call('HMGET', batch_key(id), 'name', 'total', 'ended', 'failed', 'revoked', 'next'))
  if not name then return false end
  return {id, name, total, ended, failed, revoked, redis.call('ZCARD', flight_key(id)), total - following}
end
