-- resign: a manager that ends in good order leaves the throne empty.
--
-- KEYS    epoch
-- ARGV    [1] manager id  [2] epoch
-- Returns 1; 0: another one reigns, and nothing was written
-- Race    its successor has begun already: the epoch is no longer ours.
-- flags: allow-oom

local stored = redis.call('HMGET', KEYS[1], 'epoch', 'manager')
if stored[1] ~= ARGV[2] or stored[2] ~= ARGV[1] then return 0 end
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
redis.call('HSET', KEYS[1], 'resigned', 1) -- the map stays in force; nobody waits for a sign of life
return 1
