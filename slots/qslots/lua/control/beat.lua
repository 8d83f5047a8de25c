-- beat: a master that does not report to this queue server stamps its pulse; once a second.
--
-- KEYS    pulse
-- ARGV    none
-- Returns now in µs, as text
-- Race    this server was away and its locks look expired: a gap of more than five seconds, or a clock gone back, is
--         noted before anybody reaps, and every lock has a full ttl again.
-- flags: allow-oom

redis.replicate_commands()
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
local last = tonumber(redis.call('HGET', KEYS[1], 'last')) or 0
if now < last or now - last > 5000000 then redis.call('HSET', KEYS[1], 'resumed', now) end
redis.call('HSET', KEYS[1], 'last', now)
return string.format('%.0f', now)
