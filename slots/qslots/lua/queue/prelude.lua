-- Stands before every script of a queue: the names of its keys, the clock, and what most of them need.
--
-- KEYS    the queue's vector in the order of keys.py; then, for scripts of slots, those of `locks.lua`; then the schedules
--         and parking places that this call may touch: `learn` finds them by their names
-- Times   µs on this server's clock. They are handed to commands as numbers (17 digits); `..` would cut them to 14.
-- Rule    check first, write after: a script that fails half-way is not rolled back. What a call must touch and was not
--         named is refused with UNNAMED; the caller looks up the names and repeats.

if not FLAGGED then redis.replicate_commands() end
local call = redis.call
local TASKS, BURIED, FATE, AGAIN, GATES, COUNTERS, WAITERS, WAKE, HANDLERS, FINISHED = unpack(KEYS, 1, 10)
local CHUNK = 1000 -- `unpack` fails near 8,000 values
local UNNAMED = 'UNNAMED a schedule or a parking place that this call must touch was not named'

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local SCHEDULES, schedule_of, handler_of, parked_of = {}, {}, {}, {} -- keys in order; handler -> key; back; collection -> key

-- Finds schedules and parking places among the keys from this place on.
local function learn(first, last)
  for i = first, last or #KEYS do
    local kind, name = string.match(KEYS[i], '}:(%a+):(.*)$')
    if kind == 'schedule' then
      SCHEDULES[#SCHEDULES + 1] = KEYS[i]
      schedule_of[name], handler_of[KEYS[i]] = KEYS[i], name
    elseif kind == 'parked' then
      parked_of[name] = KEYS[i]
    end
  end
end

local BADARGS = 'BADARGS an argument is missing, or not of its kind: is the client of another version?'

-- Whether all of these are whole numbers, as times and counts are.
local function are_numbers(...)
  for i = 1, select('#', ...) do
    local number = tonumber((select(i, ...)))
    if not (number and number >= 0 and number < 9007199254740992 and number % 1 == 0) then return false end
  end
  return true
end

local function in_chunks(command, key, values)
  for i = 1, #values, CHUNK do
    call(command, key, unpack(values, i, math.min(i + CHUNK - 1, #values)))
  end
end

-- Redis before 7 knows no flags, so no allow-oom; but when memory is full it lets a script go on that has written before, even in
-- vain. For scripts that free memory in the end.
local function may_fill()
  if not FLAGGED then call('HDEL', FATE, '') end
end

local function count(name, by)
  if by > 0 then call('HINCRBY', COUNTERS, name, by) end
end

-- Counts new tasks of a handler; with the first of them the handler and its queue become known.
local function count_put(handler, tasks, queues, queue)
  if tasks == 0 or call('HINCRBY', COUNTERS, 'put:' .. handler, tasks) > tasks then return end
  call('SADD', HANDLERS, handler)
  call('SADD', queues, queue)
end

-- The name of a record's handler, or of its collection: see records.py for the places.
local function named_in(record)
  local after = 14 + (string.byte(record, 13) or 0)
  local handler = string.sub(record, 14, after - 1)
  return handler, string.sub(record, after + 1, after + (string.byte(record, after) or 0))
end

local function put_time(record)
  return #record >= 8 and struct.unpack('>d', record) or 0
end
