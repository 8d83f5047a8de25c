-- reclaim: takes back what expired locks hold, for a queue that no slot visits just now, and forgets slots of lost servers.
--
-- with: gates fates locks
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers
-- ARGV    [1] ttl of a lock, µs
-- Returns the number of tasks taken back; more may be left, at most 1,000 or 20 locks go at once
-- Race    the slot is alive after all and settles: its lock is gone and it is told so; its tasks may run twice.
-- flags: allow-oom

learn(15)
if not are_numbers(ARGV[1] or '') then return redis.error_reply(BADARGS) end
may_fill()
local moved = reap_expired(tonumber(ARGV[1]))
if moved > 0 then wake() end
forget_holders(100)
return moved
