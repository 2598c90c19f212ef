-- ARGV: continuation id or "", job id, result, its digest, now, due again at.
-- Gives {Verdict, 1 when some waiters are left, the fields of a Claim for each that became DELIVERED ...}.
local id, job_id, result, digest, now, due = unpack(ARGV)
local key = job_key(job_id)
local job, foreign = read(key, 'digest', 'unclaimed', LEFT)
if foreign then return redis.error_reply('VERSION The record of this job is of an unknown version.') end

local named = id ~= '' and read_claim(id)
-- Bind it also when it was bound to this job, but the record of the job is lost.
if named and is_waiting(named) and not is_bound(id, job_id) then bind(id, named, job_id, job) end

local stored = job and job.digest or ''
local first = stored
if first == '' and named and named.state == 'done' and named.job_id == job_id then
  first = redis.call('HGET', continuation_key(id), 'digest')
end
local verdict = (not first or first == '') and 'first' or first == digest and 'repeated' or 'contradicting'
if verdict ~= 'first' then count(verdict, 1) end

local waiters, is_crowd = {id}, job and job[LEFT] ~= ''
if stored == '' then
  local bound = bound_to(job_id, '')
  is_crowd = bound > CROWD
  if is_crowd then
    set_crowd_aside(job_id)
  elseif bound > 0 then
    waiters = {}
    for _, field in ipairs(redis.call('HKEYS', key)) do
      if string.sub(field, 1, 2) == 'w:' then waiters[#waiters + 1] = string.sub(field, 3) end
    end
  end
  if verdict == 'first' or bound > 0 then
    redis.call('HSET', key, 'v', VERSION, 'result', result, 'digest', digest)
    if bound <= 0 then add_unclaimed(job_id, #result, now) end
  end
end -- else all its waiters have it, but for the one that is named and those that are left of a crowd

local claims = {}
for _, waiter in ipairs(waiters) do
  local record = waiter == id and named or waiter ~= '' and read_claim(waiter)
  if record and is_waiting(record) then
    if is_crowd then leave_crowd(waiter, job_id) end
    wake(waiter, record, now)
    claims[#claims + 1] = claim(waiter, record, due)
  end
end
local rest = is_crowd and wake_left(job_id, CROWD, now, due, claims)
return {verdict, rest and 1 or 0, unpack(claims)}
