-- ARGV: continuation id. Gives 1 when it was taken back, else 0.
local id = ARGV[1]
local key = continuation_key(id)
local record = read(key, 'state', 'facts', 'before', 'run', 'open')
if not record or record.state ~= 'stored' or open_of(record) > 1 then return 0 end

redis.call('DEL', key, run_key(record.run))
redis.call('ZREM', DUE, id)
local task_record = task_key(task_of(record))
local task = read(task_record, 'journal')
if task then
  local forwards = redis.call('HINCRBY', task_record, 'forwards', -1)
  if forwards <= 0 and task.journal == '' then
    redis.call('DEL', task_record)
  else
    redis.call('HSET', task_record, 'c', record.before)
  end
end
return 1
