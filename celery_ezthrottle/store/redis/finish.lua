-- ARGV: continuation id, run, 1 to keep the journal. Gives 1 when the run held it, else 0.
local id, run, keep_journal = unpack(ARGV)
return finish_run(id, run, keep_journal == '1') and 1 or 0
