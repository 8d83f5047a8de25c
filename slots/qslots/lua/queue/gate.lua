-- gate: pauses or resumes a queue, a handler or a collection; of a resumed collection a part comes back at once.
--
-- with: gates fates gating
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places (the collection's among them)
-- ARGV    [1] pause | resume  [2] queue: | handler:NAME | collection:NAME  [3] version of the queue's gates, 0 for the next
--         [4] optional, of a pause of a handler: why it was parked; a gate that is closed stays as it is then
-- Returns {tasks brought back, tasks still parked}: call again until none is left; slots would do it too.
--         Of a pause {1 if it was open, 0}
-- Race    the caller dies half-way: the gate says "resuming", and every take brings a part back.
-- flags: allow-oom

learn(11)
local field, why, collection = ARGV[2], ARGV[4], string.match(ARGV[2], '^collection:(.+)$')
if not string.match(ARGV[3] or '', '^%d+$') or #ARGV > 4 then return redis.error_reply(BADARGS) end
if why and not (ARGV[1] == 'pause' and string.match(field, '^handler:.')) then return redis.error_reply(BADARGS) end
if collection and not parked_of[collection] then return redis.error_reply(UNNAMED) end
if call('SCARD', HANDLERS) > #SCHEDULES then return redis.error_reply(UNNAMED) end -- what comes back may be anyone's
if why and call('HEXISTS', GATES, field) == 1 then return { 0, 0 } end
may_fill()
local moved, left = 0, 0
if ARGV[1] == 'pause' then
  moved = call('HSET', GATES, field, why and 'paused: ' .. why or 'paused')
elseif not collection then
  call('HDEL', GATES, field)
elseif call('HEXISTS', GATES, field) == 1 then
  call('HSET', GATES, field, 'resuming')
  moved = bring_back(collection)
  left = call('ZCARD', parked_of[collection])
end
if ARGV[3] ~= '0' then call('HSET', GATES, 'version', ARGV[3]) else call('HINCRBY', GATES, 'version', 1) end
gates = nil
wake()
return { moved, left }
