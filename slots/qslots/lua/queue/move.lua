-- move: gives an inactive, active or buried task another activation time; a buried one begins anew.
--
-- with: gates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] id  [2] when ("" now, "+µs" from now, "µs" at)
-- Returns 1; UNKNOWN id, LOCKED id, UNREADABLE id (it names no handler of the queue): nothing was changed
-- Race    a slot takes the task first: it is locked and cannot be moved; `rearm` runs it once more afterwards.
-- flags: allow-oom

learn(11)
local id, from, at = ARGV[1], string.match(ARGV[2], '^(%+?)(%d*)$')
if not from or from == '+' and at == '' then return redis.error_reply('BADTIME ' .. ARGV[2]) end
local place, refusal, key, record = changeable(id)
if not place then return redis.error_reply(refusal) end
if place == 'locked' then return redis.error_reply('LOCKED ' .. id) end
local handler = named_in(record)
local schedule = place == 'scheduled' and key or schedule_of[handler]
if not schedule and call('SISMEMBER', HANDLERS, handler) == 1 then return redis.error_reply(UNNAMED) end
if not schedule then return redis.error_reply('UNREADABLE ' .. id) end
may_fill()
if place == 'buried' then call('HDEL', FATE, id) end
call('ZREM', key, id)
call('ZADD', schedule, at == '' and now or tonumber(at) + (from == '+' and now or 0), id)
wake()
return 1
