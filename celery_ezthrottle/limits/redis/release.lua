-- ARGV: buckets, ticket. Gives 1.
local buckets = buckets_of(ARGV[1])
free_leases(buckets, ARGV[2])
look_again(buckets)
return 1
