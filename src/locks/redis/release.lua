-- Deletes a key that has our value, and tells whether it had.
-- KEYS[1] the lock, ARGV[1] our value.
if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('DEL', KEYS[1])
end
return 0
