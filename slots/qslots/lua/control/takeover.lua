-- takeover: a qmaster claims the name of its server.
--
-- KEYS    masters, seen
-- ARGV    [1] server  [2] what all incarnations on the caller's machine begin with: they are dead  [3] its own
--         [4] µs without a report after which another master counts as gone
-- Returns 1; TAKEN incarnation: another master of this name is alive
-- Race    two machines of one name start at once: the second sees the first's incarnation and is refused.
-- flags: allow-oom

redis.replicate_commands()
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local current = redis.call('HGET', KEYS[1], ARGV[1])
local seen = tonumber(redis.call('ZSCORE', KEYS[2], ARGV[1])) or 0
local dead = current == ARGV[3] or current and ARGV[2] ~= '' and string.sub(current, 1, #ARGV[2]) == ARGV[2]
if current and not dead and now - seen < tonumber(ARGV[4]) then
  return redis.error_reply('TAKEN ' .. current)
end
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
redis.call('ZADD', KEYS[2], now, ARGV[1])
return 1
