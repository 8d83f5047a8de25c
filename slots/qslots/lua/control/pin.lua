-- pin: people give a queue exactly so many slots, or take that back.
--
-- KEYS    pins
-- ARGV    [1] queue  [2] slots, '' takes the pin back
-- Returns 1
-- Race    none: the last word stands.
-- flags: allow-oom

if ARGV[2] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
end
return 1
