-- leave: a qmaster that ends in good order takes itself off the books at once.
--
-- KEYS    masters, seen, reports
-- ARGV    [1] server  [2] incarnation
-- Returns 1, or 0 if the name was another's already
-- Race    its successor registered first: nothing of the successor's is touched.
-- flags: allow-oom

if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('HDEL', KEYS[3], ARGV[1])
return 1
