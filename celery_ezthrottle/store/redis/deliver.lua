-- ARGV: continuation id or "", job id, result, its digest, now, due again at.
-- Gives {Verdict, the fields of a Claim for each that became DELIVERED ...}.
local id, job_id, result, digest, now, due = unpack(ARGV)
local key = job_key(job_id)

local job, waiters, fields = {unclaimed = ''}, {}, redis.call('HGETALL', key)
for i = 1, #fields, 2 do
  local name = fields[i]
  if string.sub(name, 1, 2) == 'w:' then waiters[#waiters + 1] = string.sub(name, 3) end
  job[name] = fields[i + 1]
end
if job.v and job.v ~= VERSION then return redis.error_reply('VERSION The record of this job is of an unknown version.') end

local named = id ~= '' and read_claim(id)
-- Bind it also when it was bound to this job, but the record of the job is lost.
if named and is_waiting(named) and not job['w:' .. id] then
  bind(id, named, job_id, job.v and job)
  waiters[#waiters + 1] = id
end

local first = job.digest
if not first and named and named.state == 'done' and named.job_id == job_id then
  first = redis.call('HGET', continuation_key(id), 'digest')
end
local verdict = (not first or first == '') and 'first' or first == digest and 'repeated' or 'contradicting'
if verdict ~= 'first' then count(verdict, 1) end
if not job.digest and (verdict == 'first' or #waiters > 0) then
  redis.call('HSET', key, 'v', VERSION, 'result', result, 'digest', digest)
  if #waiters == 0 then add_unclaimed(job_id, #result, now) end
end

local answer = {verdict}
for _, waiter in ipairs(waiters) do
  local record = waiter == id and named or read_claim(waiter)
  if record and is_waiting(record) then
    wake(waiter, record, now)
    answer[#answer + 1] = claim(waiter, record, due)
  end
end
return answer
