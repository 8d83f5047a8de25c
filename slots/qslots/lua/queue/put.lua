-- put: stores tasks of one handler.
--
-- with: gates places
-- KEYS    the queue's vector; [11] the producer's last request; [12] the set of all queues; [13] the handler's schedule;
--         [14…] parking places, if one may be needed
-- ARGV    [1] queue  [2] handler  [3] request number  [4] on_duplicate: refuse | ignore | replace | rearm
--         [5] 1 if the ids may be known here (the caller's own, or a repeated request), else 0
--         [6] when ("" now, "+µs" from now, "µs" at); or several, msgpack  [7] header of the records
--         [8] ids, msgpack  [9] lengths of the bodies, msgpack  [10] bodies, one after the other
-- Returns the number of tasks stored or changed; DUPLICATE id, BADTIME, LATE, UNNAMED: nothing was stored
-- Race    the reply is lost, the task runs, the producer repeats: the request number finds the first answer; a request
--         that was held up in the network until after its successor is refused.
-- flags:

learn(13)
local handler, request, on_duplicate, may_be_known = ARGV[2], ARGV[3], ARGV[4], ARGV[5] == '1'
local producer, schedule = KEYS[11], KEYS[13]

local function time_of(when)
  local from, at = string.match(when, '^(%+?)(%d+)$')
  return when == '' and now or at and tonumber(at) + (from == '+' and now or 0)
end

local ids, lengths = cmsgpack.unpack(ARGV[8]), cmsgpack.unpack(ARGV[9]) -- cmsgpack knows no binary strings
local dues = { time_of(ARGV[6]) } -- position -> activation time; one for all if there is but one text
if not dues[1] and #ARGV[6] > 0 and string.byte(ARGV[6]) >= 128 then
  for i, when in ipairs(cmsgpack.unpack(ARGV[6])) do
    dues[i] = time_of(when)
    if not dues[i] then return redis.error_reply('BADTIME ' .. when) end
  end
end
if #lengths ~= #ids or #dues ~= #ids and #dues ~= 1 then return redis.error_reply('BADTIME ' .. ARGV[6]) end

local function remember(answer, ...) return call('SET', producer, answer, 'PX', 900000, ...) end

-- The last request of this producer. Of ids that nobody has seen all are stored: such a request takes its place at once.
local first
if may_be_known then
  first = call('GET', producer)
else
  first = remember(string.format('%s:%d', request, #ids), 'GET')
end
if first then
  local served, answer = string.match(first, '^(%d+):(%d+)$')
  local is_late = tonumber(served) > tonumber(request)
  if is_late or served == request then
    remember(first) -- a write: who waits for replicas after this waits for the first one too
    return is_late and redis.error_reply('LATE a later request was served before') or tonumber(answer)
  end
end

-- A slot has it just now, but it was deleted: it is gone when its run is over, and what is put now comes after it.
local function is_leaving(id)
  local wish = call('HGET', AGAIN, id)
  return wish and cmsgpack.unpack(wish)[1] == 'gone'
end

local known, seen = {}, {} -- position -> {place, score, key, record} of a task that is there already; false: leave it
for i, id in ipairs(may_be_known and ids or {}) do
  local record = call('HGET', TASKS, id)
  local finished = not record and (tonumber(call('ZSCORE', FINISHED, id)) or 0) > now
  local twice = seen[id] or finished and (on_duplicate == 'refuse' or on_duplicate == 'ignore')
  if record or twice then
    if on_duplicate == 'refuse' or record and named_in(record) ~= handler and on_duplicate ~= 'ignore' then
      return redis.error_reply('DUPLICATE ' .. id)
    end
    known[i] = false
    if record and not twice and (on_duplicate ~= 'ignore' or named_in(record) == handler and is_leaving(id)) then
      local place, score, key = place_of(id, record)
      if not place then return redis.error_reply(score) end
      known[i] = { place, key, record }
    end
  end
  seen[id] = true
end

local prefix = struct.pack('>d', now) .. ARGV[7]
local records, scores, stored = {}, {}, 0
for i, due in ipairs(dues) do dues[i] = string.format('%.0f', due) end -- Redis' own way takes longer, for each task
local one_due = #dues == 1 and dues[1]

-- A task that is there is changed where it is; one that a slot has just now, when it comes back.
local function change(id, due, place, key, old, new)
  if place == 'locked' then
    local before = call('HGET', AGAIN, id)
    local wish = before and cmsgpack.unpack(before) or {}
    if on_duplicate == 'replace' or wish[1] == 'gone' then -- what was deleted does not come back; this is a new task
      wish = { 'replace', due, new }
    else
      wish = { wish[1] or 'rearm', due, wish[3] }
    end
    return call('HSET', AGAIN, id, cmsgpack.pack(wish))
  end
  if on_duplicate == 'replace' then call('HSET', TASKS, id, new) end
  if place == 'buried' or on_duplicate == 'replace' then call('HDEL', FATE, id) end
  if key ~= schedule then call('ZREM', key, id) end
  call('ZADD', schedule, due, id)
end

local place, bodies = 1, ARGV[10]
for i, id in ipairs(ids) do
  local due, record = one_due or dues[i], prefix .. string.sub(bodies, place, place + lengths[i] - 1)
  place = place + lengths[i]
  local there = known[i]
  if there == nil then
    records[#records + 1], records[#records + 2] = id, record
    scores[#scores + 1], scores[#scores + 2] = due, id
  elseif there then
    change(id, due, there[1], there[2], there[3], record)
    stored = stored + 1
  end
end
in_chunks('HSET', TASKS, records)
in_chunks('ZADD', schedule, scores)
count_put(handler, #records / 2, KEYS[12], ARGV[1])
stored = stored + #records / 2
if may_be_known then remember(string.format('%s:%d', request, stored)) end
if call('EXISTS', WAITERS) == 1 then wake() end
return stored
