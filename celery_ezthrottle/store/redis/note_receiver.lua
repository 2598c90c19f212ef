-- ARGV: what its clock says.
local clock = redis.call('TIME')
local ahead = string.format('%.6f', ARGV[1] - clock[1] - clock[2] / 1e6)
redis.call('SET', PREFIX .. 'receiver', ahead, 'EX', 30 * 24 * 3600)
