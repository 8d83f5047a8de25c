-- put: stores new tasks of one handler.
--
-- KEYS    the vector; [12] the handler's schedule; [13] the producer's last request; [14] the set of all queues
-- ARGV    [1] queue  [2] handler  [3] request number  [4] on_duplicate: refuse | ignore
--         [5] 1 if the ids may be known here (the caller's own, or a repeated request), else 0
--         [6…] per task: id, when ("" now, "+µs" from now, "µs" at), record without its time stamp
-- Returns the number of tasks stored; DUPLICATE id, BADTIME, LATE: nothing was stored
-- Race    the reply is lost, the task runs, the producer repeats: the request number finds the first answer; a request
--         that was held up in the network until after its successor is refused.
-- flags:

local handler, request, on_duplicate, may_be_known = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local schedule, producer = KEYS[12], KEYS[13]
local first = call('GET', producer)
if first then
  local served, answer = string.match(first, '^(%d+):(%d+)$')
  if served == request then return tonumber(answer) end
  if tonumber(served) > tonumber(request) then return redis.error_reply('LATE a later request was served before') end
end

local records, scores, seen = {}, {}, {}
local stamp = '\1' .. struct.pack('>d', now)
for i = 6, #ARGV, 3 do
  local id, when = ARGV[i], ARGV[i + 1]
  local at = when == '' and now or tonumber(string.match(when, '^%+?(%d+)$'))
  if not at then return redis.error_reply('BADTIME ' .. when) end
  if string.sub(when, 1, 1) == '+' then at = now + at end
  local known = seen[id] or (may_be_known and call('HEXISTS', TASKS, id) == 1)
  if known and on_duplicate == 'refuse' then return redis.error_reply('DUPLICATE ' .. id) end
  if not known then
    seen[id] = true
    records[#records + 1], records[#records + 2] = id, stamp .. ARGV[i + 2]
    scores[#scores + 1], scores[#scores + 2] = at, id
  end
end

in_chunks('HSET', TASKS, records)
in_chunks('ZADD', schedule, scores)
local stored = #records / 2
count('put', stored)
call('SADD', HANDLERS, handler)
call('SADD', KEYS[14], ARGV[1])
call('SET', producer, string.format('%s:%d', request, stored), 'PX', 900000)
wake()
return stored
