-- ARGV: id, or '' and a name. Gives {id, name, total, ended, failed, revoked, in flight, waiting}; nothing when there is none.
local id = ARGV[1] ~= '' and ARGV[1] or redis.call('GET', name_key(ARGV[2]))
return id and status_of(id)
