-- ARGV: 1 to keep the journals; continuation id and run of each. Gives how many of the runs held theirs.
local held = 0
for i = 2, #ARGV, 2 do
  local id, run = ARGV[i], ARGV[i + 1]
  local record = read(continuation_key(id), 'state', 'run', 'job_id', 'facts')
  if record and record.state == 'running' and record.run == run then
    finish(id, record)
    if ARGV[1] ~= '1' then
      local task_id = task_of(record)
      local task = read(task_key(task_id), 'forwards', 'c')
      if task then end_task(task_id, task, retries_of(record)) end
    end
    held = held + 1
  end
end
return held
