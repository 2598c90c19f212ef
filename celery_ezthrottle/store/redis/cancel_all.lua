-- ARGV: result, now, task ids; then the bounds. Gives {task id, id of its continuation ...} of those that this act has cancelled.
local result, now, cancelled = ARGV[1], ARGV[2], {}
for i = 3, #ARGV - 2 do
  local id = cancel_newest(ARGV[i], result, now)
  if id then
    cancelled[#cancelled + 1] = ARGV[i]
    cancelled[#cancelled + 1] = id
  end
end
return cancelled
