-- The generic cell rate algorithm by this server's own clock, in microseconds.
-- KEYS[1] one caller of one limit: when its last grant is paid for.
-- ARGV[1] time between two grants, ARGV[2] grants at once after a pause.
-- Returns 0 when granted, otherwise how long to wait.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local every = tonumber(ARGV[1])
local most = every * tonumber(ARGV[2])
local paid = tonumber(redis.call('GET', KEYS[1])) or now
if paid < now then
  paid = now
end
-- The clock of a server that took over may lie behind.
if paid > now + most then
  paid = now + most
end
local wait = paid + every - most - now
if wait > 0 then
  return wait
end
paid = paid + every
redis.call('SET', KEYS[1], string.format('%.0f', paid), 'PX', string.format('%.0f', math.ceil((paid - now) / 1000)))
return 0
