-- delete: takes a task out of the queue, wherever it is.
--
-- with: gates fates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] id
-- Returns deleted, or locked: a slot has it; it is deleted when its run is over, whatever comes of it; UNKNOWN id
-- Race    the run fails after the deletion: the mark in `again` stands above the outcome, so nothing brings it back.
-- flags: allow-oom

learn(11)
local id = ARGV[1]
local place, refusal, key = changeable(id)
if not place then return redis.error_reply(refusal) end
may_fill()
if place == 'locked' then
  call('HSET', AGAIN, id, cmsgpack.pack({ 'gone', 'deleted' }))
  return 'locked'
end
call('ZREM', key, id)
forget(id)
count('deleted', 1)
tell_end(id)
return 'deleted'
