-- cascade: what `settle` says of a living slot's tasks, and the tasks that those which are done leave behind: both or neither.
--
-- with: gates fates locks outcomes
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers, keys of results; then for each queue that gets
--         tasks its vector and the schedules of those tasks' handlers; last the set of all queues
-- ARGV    [1] to [10] as `settle` takes them of a living slot  [11] queues, msgpack list of [name, place of
--         its vector, of its first and last schedule]  [12] children, msgpack list of [position of the parent, number
--         of its queue, handler, when ("" now, "+µs" from now, "µs" at), ids, lengths of the bodies, place among ARGV
--         of the header of the records; the bodies follow, one after the other]  [13…] results, headers, bodies
-- Returns 1, or 0 if the lock was gone before: then nothing was put either
-- Race    the reply is lost and the request repeated: the parent has ended, so its children are there, or were, and are
--         not put again.
-- flags:

local outcomes, results = said_of_ends()
if not outcomes or #ARGV < 12 then return redis.error_reply(BADARGS) end
local queues, children = cmsgpack.unpack(ARGV[11]), cmsgpack.unpack(ARGV[12])
local lock = string.format('%s:%s', ARGV[1], ARGV[2])

local function is_place(value, most) return is_number(value) and value % 1 == 0 and value >= 1 and value <= most end

local function is_queue(queue)
  if type(queue) ~= 'table' or type(queue[1]) ~= 'string' then return false end
  local _, vector, first, last = unpack(queue)
  if not (is_place(vector, #KEYS) and is_place(first, #KEYS) and is_place(last, #KEYS - 1)) then return false end
  return vector > 14 and first == vector + 10 and last >= first
end

local function is_child(child)
  if type(child) ~= 'table' then return false end
  local position, queue, handler, when, ids, lengths, place = unpack(child)
  if not (is_place(position, 1000) and is_place(queue, #queues) and is_place(place, #ARGV - 1)) then return false end
  local texts = type(handler) == 'string' and type(when) == 'string' and string.match(when, '^%+?%d*$') and when ~= '+'
  if not texts or type(ids) ~= 'table' or type(lengths) ~= 'table' or #ids ~= #lengths then return false end
  local sum, parent = 0, outcomes[position]
  for i, id in ipairs(ids) do
    if type(id) ~= 'string' or not is_number(lengths[i]) or lengths[i] < 0 then return false end
    sum = sum + lengths[i]
  end
  return sum == #ARGV[place + 1] and parent and parent.kind == 'done'
end

if not (all_are(is_queue, queues) and #queues > 0 and all_are(is_child, children)) then return redis.error_reply(BADARGS) end

-- From here on everything speaks of another queue, whose vector begins at this place.
local function visit(vector, first, last)
  TASKS, BURIED, FATE, AGAIN, GATES, COUNTERS, WAITERS, WAKE, HANDLERS, FINISHED = unpack(KEYS, vector, vector + 9)
  SCHEDULES, schedule_of, handler_of, parked_of, gates, bucket, fates = {}, {}, {}, {}, nil, nil, nil
  learn(first, last)
end

-- What is to become of an id: put, renew (a slot has it just now, but it was deleted: what is put now comes after it), or
-- nil where the task is there, or was within its queue's window.
local function fortune(id, handler)
  local record = call('HGET', TASKS, id)
  if not record then return (tonumber(call('ZSCORE', FINISHED, id)) or 0) <= now and 'put' or nil end
  local wish = named_in(record) == handler and call('HGET', AGAIN, id)
  return wish and cmsgpack.unpack(wish)[1] == 'gone' and 'renew' or nil
end

-- What is to be written of one call's tasks; nil if its schedule was not named.
local function read_child(child, seen)
  local _, _, handler, when, ids, lengths, place = unpack(child)
  local put = { handler = handler, schedule = schedule_of[handler], records = {}, scores = {}, renewed = {} }
  if not put.schedule then return nil end
  call('ZCARD', put.schedule) -- looking refuses keys of a wrong kind, while nothing is written
  local from, at = string.match(when, '^(%+?)(%d*)$')
  local due = string.format('%.0f', at == '' and now or tonumber(at) + (from == '+' and now or 0))
  local prefix, start = struct.pack('>d', now) .. ARGV[place], 1
  for i, id in ipairs(ids) do
    local record = prefix .. string.sub(ARGV[place + 1], start, start + lengths[i] - 1)
    local what = not seen[id] and fortune(id, handler)
    if what == 'put' then
      put.records[#put.records + 1], put.records[#put.records + 2] = id, record
      put.scores[#put.scores + 1], put.scores[#put.scores + 2] = due, id
    elseif what then
      put.renewed[#put.renewed + 1], put.renewed[#put.renewed + 2] = id, cmsgpack.pack({ 'replace', due, record })
    end
    seen[id], start = true, start + lengths[i]
  end
  return put
end

local own_keys = queues[1][2] - 1
learn(15, own_keys)
if not can_settle(lock) then return redis.error_reply(UNNAMED) end
local puts, all_queues = {}, KEYS[#KEYS]
for number, queue in ipairs(queues) do
  local _, vector, first, last = unpack(queue)
  local seen = {}
  visit(vector, first, last)
  call('HLEN', COUNTERS)
  call('SISMEMBER', HANDLERS, '')
  call('SISMEMBER', all_queues, '')
  for _, child in ipairs(children) do
    if child[2] == number and is_held(lock, child[1]) then -- else its parent has ended before
      local put = read_child(child, seen)
      if not put then return redis.error_reply(BADARGS) end
      puts[#puts + 1] = put
      put.queue = queue
    end
  end
end

-- The tasks come first: before Redis 7 a server whose memory is full refuses the first write that takes some.
for _, put in ipairs(puts) do
  visit(unpack(put.queue, 2))
  in_chunks('HSET', TASKS, put.records)
  in_chunks('ZADD', put.schedule, put.scores)
  in_chunks('HSET', AGAIN, put.renewed)
  count_put(put.handler, #put.records / 2, all_queues, put.queue[1])
end
for _, queue in ipairs(queues) do
  visit(unpack(queue, 2))
  if call('EXISTS', WAITERS) == 1 then wake() end
end
visit(1, 15, own_keys)
local found, ended = settle_lock(lock, outcomes, ARGV[4], 'keep', '', tonumber(ARGV[8]), results)
if found and ended > 0 then count_busy(tonumber(ARGV[10])) end
wake()
return found and 1 or 0
