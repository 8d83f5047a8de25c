-- kick: brings buried tasks back to work, the longest buried first; they begin anew.
--
-- with: places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] how many, at most 1,000
-- Returns {number of tasks looked at, number brought back}: those without a record are forgotten
-- Race    two kick at once: each finds what the other has left.
-- flags: allow-oom

learn(11)
local ids = call('ZRANGE', BURIED, 0, math.min(tonumber(ARGV[1]), CHUNK) - 1)
local schedules, records = {}, #ids > 0 and call('HMGET', TASKS, unpack(ids)) or {}
for i, record in ipairs(records) do
  schedules[i] = record and schedule_of[named_in(record)]
  if record and not schedules[i] then return redis.error_reply(UNNAMED) end
end
may_fill()
local kicked = 0
for i, id in ipairs(ids) do
  call('ZREM', BURIED, id)
  call('HDEL', FATE, id)
  if schedules[i] then
    call('ZADD', schedules[i], now, id)
    kicked = kicked + 1
  end
end
wake()
return { #ids, kicked }
