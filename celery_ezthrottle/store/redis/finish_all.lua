-- ARGV: continuation id and run, as often as there are any; then the bounds.
for i = 1, #ARGV - 3, 2 do finish_run(ARGV[i], ARGV[i + 1], false) end
