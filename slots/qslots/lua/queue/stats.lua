-- stats: the counts of one queue; its cost depends on the number of handlers, not of tasks.
--
-- with: gates fates locks
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers, parking places
-- ARGV    none
-- Returns {now µs, active, inactive, locked, buried, age of the oldest active µs, parked, takeable, expired locks,
--         [gate, value, …], [counter, value, …], [[handler, active, inactive, age of its oldest active µs, 1 if its gate
--         is open], …]}
-- Race    none: it reads one instant. Locked is what is in no schedule, not parked and not buried.
-- flags: no-writes allow-oom

learn(15)
local active, scheduled, oldest, parked, each = 0, 0, now, 0, {}
for place, schedule in ipairs(SCHEDULES) do
  local due, all = call('ZCOUNT', schedule, '-inf', now), call('ZCARD', schedule)
  local first = math.min(now, tonumber(call('ZRANGE', schedule, 0, 0, 'WITHSCORES')[2]) or now)
  active, scheduled, oldest = active + due, scheduled + all, math.min(oldest, first)
  local age = string.format('%.0f', now - first)
  each[place] = { handler_of[schedule], due, all - due, age, is_open(schedule) and 1 or 0 }
end
for _, place in pairs(parked_of) do parked = parked + call('ZCARD', place) end
local buried = call('ZCARD', BURIED)
local locked = call('HLEN', TASKS) - scheduled - parked - buried
return {
  string.format('%.0f', now), active, scheduled - active, locked, buried, string.format('%.0f', now - oldest), parked,
  takeable(active), call('ZCOUNT', LOCKS, '-inf', now), call('HGETALL', GATES), call('HGETALL', COUNTERS), each,
}
