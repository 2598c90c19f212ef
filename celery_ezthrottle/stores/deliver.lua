-- ARGV: continuation id or "", job id, result, now. Gives {1 for the first result, else 0; ids that became DELIVERED}.
local id, job_id, result, now = unpack(ARGV)
local job = job_key(job_id)
if is_foreign(job) then return {0, {}} end

local named = id ~= '' and read(continuation_key(id), 'state', 'deadline', 'job_id', 'settled')
if named and named.state == 'stored' then
  bind(id, named, job_id)
elseif named and named.state == 'done' and named.job_id == job_id and named.settled == '' and redis.call('EXISTS', job) == 0 then
  return {0, {}} -- the first result was dropped when its task ended
end

local first = redis.call('HSETNX', job, 'result', result)
if first == 1 then
  redis.call('HSET', job, 'v', VERSION, 'delivered_at', now)
  keep(job, now + GRACE)
end
local woken = {}
for _, waiter in ipairs(waiters(job)) do
  local record = read(continuation_key(waiter), 'state', 'deadline')
  if record and is_waiting(record) then
    wake(waiter, record, now)
    woken[#woken + 1] = waiter
  end
end
return {first, woken}
