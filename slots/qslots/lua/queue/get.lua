-- get: all that the queue knows of some tasks.
--
-- with: gates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    ids
-- Returns {now µs, per id: {id, record, scheduled | parked | buried | locked, score µs, fate, wish for later} or false};
--         UNNAMED
-- Race    none: it reads one instant.
-- flags: no-writes allow-oom

learn(11)
local found = { string.format('%.0f', now) }
for i, id in ipairs(ARGV) do
  local task, refusal = described(id)
  if task == nil then return redis.error_reply(refusal) end
  found[i + 1] = task
end
return found
