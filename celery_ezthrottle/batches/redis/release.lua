-- ARGV: id, most, lease. Claims the next members. Gives {index, line and message, ...}.
return release(ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]))
