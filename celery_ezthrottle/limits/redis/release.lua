-- ARGV: buckets, ticket. Gives 1.
local buckets = cjson.decode(ARGV[1])
free_leases(buckets, ARGV[2])
look_again(buckets)
return 1
