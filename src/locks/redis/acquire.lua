-- Takes a free key, renews one that already has our value, and tells whose it is now.
-- KEYS[1] the lock, ARGV[1] our value, ARGV[2] the lease in milliseconds.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return ARGV[1]
end
local held = redis.call('GET', KEYS[1])
if held == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return held
