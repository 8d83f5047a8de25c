-- bury: puts an inactive or active task aside, with a reason, until somebody kicks it.
--
-- with: gates fates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] id  [2] why
-- Returns 1; UNKNOWN id, LOCKED id: nothing was changed
-- Race    a slot takes the task first: it is locked and is not buried behind the slot's back.
-- flags: allow-oom

learn(11)
local id = ARGV[1]
local place, refusal, key = changeable(id)
if not place then return redis.error_reply(refusal) end
if place == 'locked' then return redis.error_reply('LOCKED ' .. id) end
may_fill()
call('ZREM', key, id)
bury(id, fate_of(id), ARGV[2])
return 1
