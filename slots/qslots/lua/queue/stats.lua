-- stats: the counts of one queue; its cost depends on the number of handlers, not of tasks.
--
-- KEYS    the vector; [12…] schedules of the queue's handlers
-- ARGV    none
-- Returns {now µs, active, inactive, locked, buried, age of the oldest active µs, [counter, value, …]}
-- Race    none: it reads one instant. Locked is what is in no schedule and not buried.
-- flags: no-writes allow-oom

local active, scheduled, oldest = 0, 0, now
for _, schedule in ipairs(SCHEDULES) do
  active = active + call('ZCOUNT', schedule, '-inf', now)
  scheduled = scheduled + call('ZCARD', schedule)
  oldest = math.min(oldest, tonumber(call('ZRANGE', schedule, 0, 0, 'WITHSCORES')[2]) or now)
end
local buried = call('ZCARD', BURIED)
local locked = call('HLEN', TASKS) - scheduled - buried
return {
  string.format('%.0f', now), active, scheduled - active, locked, buried, string.format('%.0f', now - oldest),
  call('HGETALL', COUNTERS),
}
