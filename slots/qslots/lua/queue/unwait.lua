-- unwait: a slot that was registered as waiting here has found work elsewhere, or serves this queue no more.
--
-- with: gates
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers
-- ARGV    [1] holder
-- Returns 1 if it was registered, else 0
-- Race    others rely on this slot to wake for the next due task, or it has swallowed a token: another is rung instead.
-- flags: allow-oom

learn(11)
local registered = call('ZREM', WAITERS, ARGV[1])
wake()
return registered
