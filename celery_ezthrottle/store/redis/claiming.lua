local CLAIM = {'state', 'facts', 'job_id', 'failure', 'attempts', 'publications', 'open', 'job', 'parked'}

local function read_claim(id) return read(continuation_key(id), unpack(CLAIM)) end

-- Gives the fields of a Claim. `record` was read by read_claim, and has something due. For RUNNING, that is a lapsed lease.
local function claim(id, record, due)
  if record.state == 'running' then
    redis.call('HSET', continuation_key(id), 'state', 'delivered', 'run', '')
    record.state = 'delivered'
  elseif record.state == 'stored' then
    record.open = open_of(record)
    redis.call('HSET', continuation_key(id), 'open', record.open + 1) -- this claim begins an attempt to submit
  end
  schedule(id, due, record)
  if not is_delivered(record) then record.parked = '' end
  local values = {id}
  for i, name in ipairs(CLAIM) do values[i + 1] = record[name] end
  return values
end

-- STORED → DELIVERED, claimed. Gives the fields of a Claim; nil when it does not wait for a turn, or is in another state.
local function take_turn(id, result, now, due)
  local record = redis.call('ZREM', TURNS, id) == 1 and read_claim(id)
  if not record or record.state ~= 'stored' then return nil end
  record.job = ''
  wake(id, record, now, 'result', result, 'own', 'settled')
  return claim(id, record, due)
end
