-- ARGV: task id, run, continuation id or "", journal, retries. Gives 1 when it was saved, else 0.
local task_id, run, id, journal, retries = unpack(ARGV)
local key = task_key(task_id)
local task = read(key, 'ended', 'c')
if not task or task.ended ~= '' or is_closed(run) then return 0 end
if id ~= '' then
  local record = read(continuation_key(id), 'state', 'run')
  if not record or record.state ~= 'running' or record.run ~= run then return 0 end
else
  local newest = read(continuation_key(task.c), 'state', 'facts')
  if newest and is_in_the_way(newest, retries) then return 0 end
end
redis.call('HSET', key, 'journal', journal)
return 1
