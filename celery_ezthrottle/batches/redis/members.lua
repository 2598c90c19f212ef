-- ARGV: id, first and last index. Gives {letters, line, ...} of these members.
local id, first, last = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local found = {redis.call('GETRANGE', states_key(id), first, last)}
for index = first, first + #found[1] - 1 do
  local kept = redis.call('HGET', members_key(id), index) or ''
  local line = string.find(kept, '\n', 1, true)
  table.insert(found, line and string.sub(kept, 1, line - 1) or kept)
end
return found
