-- kick: brings buried tasks back to work, the longest buried first; they begin anew.
--
-- with: gates
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] how many, at most 1,000
-- Returns {number of tasks looked at, number brought back}: those without a record are forgotten; those whose record
--         cannot be read go to the end of the row, so that they hold up nobody
-- Race    two kick at once: each finds what the other has left.
-- flags: allow-oom

learn(11)
local ids = call('ZRANGE', BURIED, 0, math.min(tonumber(ARGV[1]), CHUNK) - 1)
local schedules, records = {}, #ids > 0 and call('HMGET', TASKS, unpack(ids)) or {}
for i, record in ipairs(records) do
  local handler = named_in(record or '')
  schedules[i] = record and schedule_of[handler]
  if record and not schedules[i] and call('SISMEMBER', HANDLERS, handler) == 1 then return redis.error_reply(UNNAMED) end
end
may_fill()
local kicked = 0
for i, id in ipairs(ids) do
  if records[i] and not schedules[i] then
    call('ZADD', BURIED, now, id)
  else
    call('ZREM', BURIED, id)
    call('HDEL', FATE, id)
  end
  if schedules[i] then
    call('ZADD', schedules[i], now, id)
    kicked = kicked + 1
  end
end
wake()
return { #ids, kicked }
