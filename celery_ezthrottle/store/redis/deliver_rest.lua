-- ARGV: job id, now, due again at. Gives {1 when some waiters are left, the fields of a Claim for each that became DELIVERED ...}.
local job_id, now, due = unpack(ARGV)
local claims = {}
local rest = wake_left(job_id, CROWD, now, due, claims)
return {rest and 1 or 0, unpack(claims)}
