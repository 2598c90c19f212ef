-- ARGV: continuation id. Gives 1 when it was taken back, now or before, else 0.
local id = ARGV[1]
local key = continuation_key(id)
local record, foreign = read(key, 'state', 'facts', 'before', 'run', 'open')
if not record then return foreign and 0 or 1 end
if record.state ~= 'stored' or open_of(record) > 1 then return 0 end
-- The caller of close_run has left the task to this continuation: its message may be acknowledged already.
if redis.call('GET', run_key(record.run)) == TOLD then return 0 end

local due = redis.call('ZSCORE', DUE, id)
redis.call('DEL', key, run_key(record.run))
redis.call('ZREM', DUE, id)
local task_record, before = task_key(task_of(record)), continuation_key(record.before)
local task = read(task_record, 'journal')
local forwards = task and redis.call('HINCRBY', task_record, 'forwards', -1)

local aside = read(before, 'state', 'facts', 'journal', 'leased')
if aside and aside.state == 'done' and aside.facts ~= '' then -- the run goes on with the continuation that it was resumed from
  redis.call('HSET', before, 'state', 'running')
  redis.call('HDEL', before, 'journal', 'leased')
  if aside.leased == '1' then schedule(record.before, due or 0, aside) end
  if task then redis.call('HSET', task_record, 'c', record.before, 'journal', aside.journal) end
elseif task and forwards <= 0 and task.journal == '' then
  redis.call('DEL', task_record)
elseif task then
  redis.call('HSET', task_record, 'c', record.before)
end
return 1
