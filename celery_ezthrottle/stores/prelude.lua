-- In front of every script. KEYS[1] is the prefix of all keys: with its hash tag it names the slot that all of them are in.
-- Records are hashes with a field v; one of another version is neither read nor written. Times are Unix seconds, kept as
-- the caller wrote them.

local PREFIX, VERSION = KEYS[1], '1'
local GRACE = 7 * 24 * 3600 -- how long a record outlives its deadline
local LATE = 24 * 3600 -- how long after its end somebody may still ask about a run
local DUE = PREFIX .. 'due'

local function continuation_key(id) return PREFIX .. 'c:' .. id end
local function task_key(id) return PREFIX .. 't:' .. id end
local function job_key(id) return PREFIX .. 'j:' .. id end
local function run_key(run) return PREFIX .. 'r:' .. run end -- 'suspended' or 'closed'

-- The named fields of a record, "" for one it has not; nil when the record is not there for us.
local function read(key, ...)
  local names = {...}
  local values = redis.call('HMGET', key, 'v', ...)
  if values[1] ~= VERSION then return nil end
  local record = {}
  for i, name in ipairs(names) do record[name] = values[i + 1] or '' end
  return record
end

local function is_foreign(key)
  return redis.call('EXISTS', key) == 1 and redis.call('HGET', key, 'v') ~= VERSION
end

local function is_closed(run) return redis.call('GET', run_key(run)) == 'closed' end

-- Let a key live until `at` or longer. (The PTTL of one without a lifetime is -1: shorter than any.)
local function keep(key, at)
  local left, clock = redis.call('PTTL', key), redis.call('TIME')
  if clock[1] + clock[2] / 1e6 + left / 1e3 < at then
    redis.call('EXPIREAT', key, string.format('%.0f', math.ceil(at)))
  end
end

-- The set is gone whenever it is empty, so each member has to bring its lifetime along.
local function schedule(id, due, deadline)
  redis.call('ZADD', DUE, due, id)
  keep(DUE, deadline + GRACE)
end

local function is_waiting(record) return record.state == 'stored' or record.state == 'submitted' end

local function is_delivered(record) return record.state == 'delivered' or record.state == 'published' end

-- STORED → SUBMITTED; `record` has `deadline`.
local function bind(id, record, job_id)
  local key, job = continuation_key(id), job_key(job_id)
  redis.call('HSET', key, 'state', 'submitted', 'job_id', job_id)
  redis.call('HDEL', key, 'job')
  schedule(id, record.deadline, record.deadline)
  if not is_foreign(job) then
    redis.call('HSET', job, 'v', VERSION, 'w:' .. id, '')
    keep(job, record.deadline + GRACE)
  end
end

-- STORED or SUBMITTED → DELIVERED; `record` has `deadline`.
local function wake(id, record, now)
  local key = continuation_key(id)
  redis.call('HSET', key, 'state', 'delivered', 'delivered_at', now)
  redis.call('HDEL', key, 'job')
  schedule(id, now, record.deadline)
end

-- Ids of the continuations bound to a job, whatever their state.
local function waiters(job)
  local ids = {}
  for _, field in ipairs(redis.call('HKEYS', job)) do
    if string.sub(field, 1, 2) == 'w:' then ids[#ids + 1] = string.sub(field, 3) end
  end
  return ids
end

-- RUNNING → DONE: a mark stays, nothing was due any more. `record` has `job_id` and `shared`.
local function finish(id, record)
  local key = continuation_key(id)
  redis.call('HSET', key, 'state', 'done')
  redis.call('HDEL', key, 'message', 'envelope', 'job', 'failure', 'result', 'forward', 'shared', 'before', 'retries', 'attempts',
    'publications', 'maybe', 'suspended_at', 'submit_deadline', 'deadline', 'delivered_at', 'started_at')
  local job = job_key(record.job_id)
  if not read(job) then return end
  redis.call('HDEL', job, 'w:' .. id)
  if record.shared ~= '1' and #waiters(job) == 0 then redis.call('DEL', job) end
end

-- The fields of a Claim in its order; the continuation is one that has something due.
local function claim(id, due)
  local key = continuation_key(id)
  local record = read(key, 'state', 'deadline')
  schedule(id, due, record.deadline)
  local parked = is_delivered(record) and redis.call('HMGET', key, 'message', 'envelope') or {'', ''}
  local rest = redis.call('HMGET', key, 'failure', 'job_id', 'suspended_at', 'submit_deadline', 'deadline', 'attempts',
    'publications', 'maybe')
  return {id, redis.call('HGET', key, 'task_id'), record.state, redis.call('HGET', key, 'job'), parked[1], parked[2],
    unpack(rest)}
end
