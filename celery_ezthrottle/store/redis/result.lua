-- ARGV: job id. Gives the result of the job, or nil.
local job = read(job_key(ARGV[1]), 'digest', 'result')
return job and job.digest ~= '' and job.result
