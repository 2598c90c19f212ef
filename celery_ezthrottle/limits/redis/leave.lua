-- ARGV: ticket. Gives 1 when it waited or was called, else 0.
return forget(ARGV[1]) and 1 or 0
