-- due: which of several schedules have a task whose time has come; asked by a busy slot between two packs.
--
-- KEYS    schedules
-- ARGV    none
-- Returns the places (from 1) of those that have
-- Race    none: what becomes due a moment later is seen after the next pack.
-- flags: no-writes allow-oom

local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local found = {}
for place, schedule in ipairs(KEYS) do
  local at = tonumber(redis.call('ZRANGE', schedule, 0, 0, 'WITHSCORES')[2])
  if at and at <= now then found[#found + 1] = place end
end
return found
