-- update: gives an inactive, active or buried task other arguments; it stays where it is.
--
-- with: gates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] id  [2] record without its time stamp, of the same handler and collection  [3] SHA-1 of the record that
--         this one was made from, or "" for whatever is there
-- Returns 1; UNKNOWN id, LOCKED id, CHANGED: nothing was changed
-- Race    another client has replaced or changed the task since it was read: the caller reads again.
-- flags:

learn(11)
local id = ARGV[1]
local place, refusal, _, record = changeable(id)
if not place then return redis.error_reply(refusal) end
if place == 'locked' then return redis.error_reply('LOCKED ' .. id) end
local new = string.sub(record, 1, 8) .. ARGV[2]
local handler, collection = named_in(record)
local new_handler, new_collection = named_in(new)
local read = ARGV[3] or ''
if handler ~= new_handler or collection ~= new_collection or (read ~= '' and read ~= redis.sha1hex(record)) then
  return redis.error_reply('CHANGED ' .. id)
end
call('HSET', TASKS, id, new)
return 1
