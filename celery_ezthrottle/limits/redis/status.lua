-- ARGV: buckets, of which the first is looked at. Gives {waiting, leases, end of the cool-down or -1, paused, and of each window:
-- used, count, length}.
local buckets = cjson.decode(ARGV[1])
read(buckets)
local bucket = buckets[1]
local found = {
  redis.call('ZCARD', queue_key(bucket.key)),
  redis.call('ZCOUNT', leases_key(bucket.key), NOW + 1, '+inf'),
  bucket.cool > NOW and bucket.cool or -1,
  bucket.paused and 1 or 0,
}
for _, window in ipairs(bucket.windows) do
  local used = 0
  for _, at in ipairs(redis.call('LRANGE', window.list, 0, -1)) do
    if tonumber(at) > NOW - window.length then used = used + window.group end
  end
  if used > 0 and window.group > 1 then used = used - window.group + tonumber(redis.call('GET', filled_key(window)) or 0) end
  for _, number in ipairs({used, window.count * window.group, window.length}) do table.insert(found, number) end
end
return found
