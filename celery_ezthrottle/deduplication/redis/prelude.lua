-- Shared by the scripts of calls that are on their way. KEYS[1] is the prefix of all keys; its hash tag puts all keys into one slot.
-- Durations are milliseconds.

local HOME = KEYS[1] .. 'd:'

local function way_key(identity) return HOME .. 'w:' .. identity end -- hash: leader (the name of a call), followers (how many wait)
local function answer_key(leader) return HOME .. 'a:' .. leader end -- string: the answer of a call that was followed; '' = it comes
