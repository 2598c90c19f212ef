-- Shared by the scripts: each gets of this file and of the others what it needs (see scripts.py), after REMEMBERED and
-- UNCLAIMED_FOR of base.py. KEYS[1] is the prefix of all keys: with its hash tag it names the slot that all of them are in.
-- Records are hashes with a field v; one of another version is neither read nor written. Times are Unix seconds, kept as
-- the caller wrote them.

local PREFIX, VERSION = KEYS[1], '1'
local GRACE = 7 * 24 * 3600 -- how long a record outlives its deadline
local LATE = 24 * 3600 -- how long after its end somebody may still ask about a run
local DUE = PREFIX .. 'due'

local function continuation_key(id) return PREFIX .. 'c:' .. id end
local function task_key(id) return PREFIX .. 't:' .. id end
local function job_key(id) return PREFIX .. 'j:' .. id end
local function run_key(run) return PREFIX .. 'r:' .. run end
local CLOSED, SUSPENDED, TOLD = '0', '1', '2' -- small integers: Redis keeps one of each for all keys

-- The named fields of a record, "" for one it has not; nil when the record is not there for us, and then whether it is foreign.
local function read(key, ...)
  local values = redis.call('HMGET', key, 'v', ...)
  if values[1] ~= VERSION then return nil, values[1] end
  local record = {}
  for i = 1, select('#', ...) do record[select(i, ...)] = values[i + 1] or '' end
  return record
end

local function is_closed(run) return redis.call('GET', run_key(run)) == CLOSED end

local function is_waiting(record) return record.state == 'stored' or record.state == 'submitted' end

local function is_delivered(record) return record.state == 'delivered' or record.state == 'published' end

-- Small values that no act changes are one field, because a field costs some 60 bytes:
-- "deadline retries forward shared suspended_at submit_deadline task_id". A mark of what is DONE has none.
local function deadline_of(record) return string.match(record.facts, '^%S+') end
local function retries_of(record) return tonumber(string.match(record.facts, '^%S+ (%S+)')) end
local function is_shared(record) return string.match(record.facts, '^%S+ %S+ %S+ (%S+)') == '1' end
local function task_of(record) return string.match(record.facts, '^%S+ %S+ %S+ %S+ %S+ %S+ (.*)$') end
-- Whether the task is in other hands than those of a run that holds nothing. Not in those of a run that Celery retried by this
-- one: it has only not said yet that it has ended.
local function is_in_the_way(record, retries)
  return record.state ~= 'done' and (record.state ~= 'running' or retries_of(record) >= tonumber(retries))
end
-- Attempts to submit it that have not ended as "not taken": the one of whoever suspended, and one for each claim.
local function open_of(record) return tonumber(record.open) or 1 end

-- A new key, or one whose lifetime is anew, lives until `at`.
local function expire(key, at) redis.call('EXPIREAT', key, string.format('%.0f', math.ceil(at))) end

-- What the clock of the server says: for lifetimes only.
local function server_time()
  local time = redis.call('TIME')
  return time[1] + time[2] / 1e6
end

-- Let a key live until `at` or longer. (The PTTL of one without a lifetime is -1: shorter than any.)
local function keep(key, at)
  if server_time() + redis.call('PTTL', key) / 1e3 < at then expire(key, at) end
end

-- A member that was in the set already has brought its lifetime along; the set is gone whenever it is empty.
-- `record` has `facts`.
local function schedule(id, due, record)
  if redis.call('ZADD', DUE, due, id) == 1 then keep(DUE, deadline_of(record) + GRACE) end
end
