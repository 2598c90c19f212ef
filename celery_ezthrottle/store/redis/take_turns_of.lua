-- ARGV: result, now, due again at, ids of tasks ... and two bounds. Gives a list of the fields of Claims.
local result, now, due = unpack(ARGV)
local claims = {}
for i = 4, #ARGV - 2 do
  local task = read(task_key(ARGV[i]), 'c')
  claims[#claims + 1] = task and task.c ~= '' and take_turn(task.c, result, now, due) or nil
end
return claims
