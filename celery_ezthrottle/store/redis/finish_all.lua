-- ARGV: a continuation id and its run, for each run that has ended; then the bounds.
for i = 1, #ARGV - 3, 2 do finish_run(ARGV[i], ARGV[i + 1], false) end
