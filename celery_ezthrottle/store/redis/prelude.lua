-- Shared by the scripts. Each script gets only the definitions that it needs, from this file and the others (see scripts.py),
-- after REMEMBERED and UNCLAIMED_FOR of records.py. KEYS[1] is the prefix of all keys; its hash tag puts all keys into one
-- slot. Records are hashes with a field v, the version; a record of another version is neither read nor written. Times are
-- Unix seconds, kept as the caller wrote them.

local PREFIX, VERSION = KEYS[1], '1'
local GRACE = 7 * 24 * 3600 -- seconds for which a record outlives its deadline
local LATE = 24 * 3600 -- seconds after the end of a run in which close_run may still ask about it
local DUE = PREFIX .. 'due'
local TURNS = PREFIX .. 'turns'

local function continuation_key(id) return PREFIX .. 'c:' .. id end
local function task_key(id) return PREFIX .. 't:' .. id end
local function job_key(id) return PREFIX .. 'j:' .. id end
local function run_key(run) return PREFIX .. 'r:' .. run end
local CLOSED, SUSPENDED, TOLD = '0', '1', '2' -- small integers save memory: all keys share one object for each

-- Gives the named fields of a record, "" for a missing field. When there is no record of our version, gives nil, and the other
-- version if there is one ("foreign"), else false.
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

-- `facts`: small values that no act changes, in one field, because each field costs some 60 bytes:
-- "deadline retries forward shared suspended_at submit_deadline task_id". The mark of a DONE continuation has no `facts`.
local function deadline_of(record) return string.match(record.facts, '^%S+') end
local function retries_of(record) return tonumber(string.match(record.facts, '^%S+ (%S+)')) end
local function is_shared(record) return string.match(record.facts, '^%S+ %S+ %S+ (%S+)') == '1' end
local function task_of(record) return string.match(record.facts, '^%S+ %S+ %S+ %S+ %S+ %S+ (.*)$') end
-- Whether a continuation keeps a run that holds none from acting for the task. It does not when it is RUNNING for fewer
-- retries: Celery has retried its run by this one, and the end of that run is not reported yet.
local function is_in_the_way(record, retries)
  return record.state ~= 'done' and (record.state ~= 'running' or retries_of(record) >= tonumber(retries))
end
-- Number of attempts to submit that have not ended as "not taken". The suspension begins one, and each claim begins one.
local function open_of(record) return tonumber(record.open) or 1 end

-- Let a key live until `at`: a new key, or one that gets a new lifetime.
local function expire(key, at) redis.call('EXPIREAT', key, string.format('%.0f', math.ceil(at))) end

local acted_at

-- The time by the clock of the server. Used for lifetimes only. An act has one time: Redis before 7.2 does not stop its clock
-- meanwhile, and results that become unclaimed together would have an order of their own.
local function server_time()
  if not acted_at then
    local time = redis.call('TIME')
    acted_at = time[1] + time[2] / 1e6
  end
  return acted_at
end

-- Let a key live until `at` or longer. (The PTTL of one without a lifetime is -1: shorter than any.)
local function keep(key, at)
  if server_time() + redis.call('PTTL', key) / 1e3 < at then expire(key, at) end
end

-- Set when something is due. `record` has `facts`. Only a new member extends the lifetime of the set: one that was there already
-- did so when it was added. (Redis deletes a set that becomes empty.)
local function schedule(id, due, record)
  if redis.call('ZADD', DUE, due, id) == 1 then keep(DUE, deadline_of(record) + GRACE) end
end
