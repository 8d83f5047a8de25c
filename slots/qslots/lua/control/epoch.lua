-- epoch: a manager begins its reign.
--
-- KEYS    epoch
-- ARGV    [1] manager id  [2] highest epoch that any master reports  [3] µs: a manager that published, or began and has not yet, a
--         shorter time ago is respected
--         [4] 1 to take over all the same
-- Returns the new epoch, as text; REIGNING manager: another one did a moment ago, and has not resigned
-- Race    two managers start at once: one is refused; or if both take over each gets a number of its own, and only the
--         higher one's maps are published.
--         The server has lost the last epoch, or its clock has gone back: what masters report and the clock make up for
--         each other. Numbers that a double does not count singly are nonsense, and would make two epochs alike.
-- flags: allow-oom

redis.replicate_commands()
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'manager', 'published', 'resigned', 'begun')
local seen = tonumber(stored[3]) or 0
if seen == 0 then seen = tonumber(stored[5]) or 0 end
local respected = ARGV[4] ~= '1' and stored[2] and stored[2] ~= ARGV[1] and not stored[4]
if respected and math.abs(now - seen) < tonumber(ARGV[3]) then
  return redis.error_reply('REIGNING ' .. stored[2])
end
local function sane(text)
  local number = tonumber(text) or 0
  return number < 9007199254740991 and number or 0
end
local epoch = string.format('%.0f', math.max(sane(stored[1]) + 1, sane(ARGV[2]) + 1, math.floor(now / 1000)))
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
redis.call('HSET', KEYS[1], 'epoch', epoch, 'manager', ARGV[1], 'seq', 0, 'published', 0, 'begun', now)
redis.call('HDEL', KEYS[1], 'resigned')
return epoch
