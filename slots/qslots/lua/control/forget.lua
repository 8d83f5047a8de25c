-- forget: the manager strikes servers off the books that have been silent for long, and declarations of nobody.
--
-- KEYS    masters, seen, reports, declared
-- ARGV    [1] µs without a report  [2] the most servers a call  [3…] digests
-- Returns the names of the servers
-- Race    one of them reports meanwhile: it is no longer silent by the server's own clock, and stays. What reports later
--         is registered anew, and asked for its declaration.
-- flags: allow-oom

redis.replicate_commands()
local clock = redis.call('TIME')
local before = string.format('(%.0f', clock[1] * 1000000 + clock[2] - tonumber(ARGV[1]))
local gone = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', before, 'LIMIT', 0, tonumber(ARGV[2]))
for _, server in ipairs(gone) do
  redis.call('HDEL', KEYS[1], server)
  redis.call('ZREM', KEYS[2], server)
  redis.call('HDEL', KEYS[3], server)
end
for i = 3, #ARGV do redis.call('HDEL', KEYS[4], ARGV[i]) end
return gone
