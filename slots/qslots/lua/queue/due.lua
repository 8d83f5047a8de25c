-- due: whether a queue has a task that may be taken now; asked by a busy slot between two packs.
--
-- with: gates
-- KEYS    the queue's vector; [11…] schedules of the handlers that this slot's generation knows
-- ARGV    none
-- Returns 1 if it has, else 0
-- Race    none: what becomes due a moment later is seen after the next pack.
-- flags: no-writes allow-oom

learn(11)
return takeable(1)
