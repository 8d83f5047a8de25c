-- report: a qmaster says how it is, and hears what it is to do.
--
-- KEYS    masters, seen, reports, map, declared, pulse, orders
-- ARGV    [1] server  [2] incarnation  [3] report  [4] digest of its declaration, "" for none
--         [5] the declaration, "" unless this server asked for it
-- Returns {row of the map or false, 1 if the declaration is wanted, its orders or false, µs since a manager has published
--         or false}; REPLACED: this server's name is another's
-- Race    a master that was cut off comes back after another took its name: it is told so and must end. A server that
--         has lost its data has forgotten everybody: who reports is registered anew.
-- flags: allow-oom

redis.replicate_commands()
local server = ARGV[1]
local registered = redis.call('HGET', KEYS[1], server)
if registered and registered ~= ARGV[2] then
  return redis.error_reply('REPLACED another qmaster has taken the name of this server')
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
if not registered then redis.call('HSET', KEYS[1], server, ARGV[2]) end
redis.call('ZADD', KEYS[2], now, server)
redis.call('HSET', KEYS[3], server, ARGV[3])
if ARGV[5] ~= '' then redis.call('HSET', KEYS[5], ARGV[4], ARGV[5]) end
local pulse = redis.call('HMGET', KEYS[6], 'last', 'resumed', 'planned')
local last = tonumber(pulse[1]) or 0
if now < last or now - last > 5000000 then redis.call('HSET', KEYS[6], 'resumed', now) end
redis.call('HSET', KEYS[6], 'last', now)
local wanted = ARGV[4] ~= '' and redis.call('HEXISTS', KEYS[5], ARGV[4]) == 0
local planned = tonumber(pulse[3])
return {
  redis.call('HGET', KEYS[4], server), wanted and 1 or 0, redis.call('HGET', KEYS[7], server),
  planned and string.format('%.0f', math.max(0, now - planned)) or false,
}
