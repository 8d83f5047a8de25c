-- Stands before every script of a queue: the names of its keys, the clock, gates, rate, fates, and who is to be woken.
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
local PORTION = 32 -- records read at once where they may be large: of 1 MB, 32 MB
local UNNAMED = 'UNNAMED a schedule or a parking place that this call must touch was not named'

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local SCHEDULES, schedule_of, handler_of, parked_of = {}, {}, {}, {} -- keys in order; handler -> key; back; collection -> key

-- Finds schedules and parking places among the keys from this place on.
local function learn(first)
  for i = first, #KEYS do
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

-- The name of a record's handler, or of its collection: see records.py for the places.
local function named_in(record)
  local after = 14 + (string.byte(record, 13) or 0)
  local handler = string.sub(record, 14, after - 1)
  return handler, string.sub(record, after + 1, after + (string.byte(record, after) or 0))
end

local function put_time(record)
  return #record >= 8 and struct.unpack('>d', record) or 0
end

-- Reads the next few records of these tasks, false for one that is missing.
local function read_on(records, ids, most)
  local from = #records
  for i, record in ipairs(call('HMGET', TASKS, unpack(ids, from + 1, math.min(from + PORTION, most)))) do
    records[from + i] = record
  end
end

local gates, bucket -- false if there are none

-- What holds tasks back: gates {queue =, handlers = {name =}, collections = {name = paused | resuming}, drops = {name =
-- instant}}, and the token bucket {rate =, tokens =} as of now, whose burst is what one second brings.
local function read_gates()
  gates, bucket = false, false
  local fields, said = call('HGETALL', GATES), {}
  for i = 1, #fields, 2 do
    local kind, name = string.match(fields[i], '^(%a+):(.*)$')
    said[fields[i]] = fields[i + 1]
    if kind then
      gates = gates or { handlers = {}, collections = {}, drops = {} }
      if kind == 'queue' then gates.queue = true end
      if kind == 'handler' then gates.handlers[name] = true end
      if kind == 'collection' then gates.collections[name] = fields[i + 1] end
      if kind == 'drop' then gates.drops[name] = tonumber(fields[i + 1]) end
      gates.sifts = gates.sifts or kind == 'collection' or kind == 'drop'
    end
  end
  local rate = tonumber(said.rate)
  if rate then
    local burst, passed = math.max(1, rate), now - tonumber(said.filled)
    local brought = math.max(0, passed) * rate / 1000000
    if passed < -1000000 then brought = burst end -- the clock has gone back: nobody knows how long it was
    bucket = { rate = rate, tokens = math.min(burst, tonumber(said.tokens) + brought) }
  end
end

local function gated()
  if gates == nil then read_gates() end
  return gates
end

-- Whether a handler's tasks may be taken now.
local function is_open(schedule)
  return not gated() or not (gates.queue or gates.handlers[handler_of[schedule]])
end

-- How many tasks may begin now.
local function tokens()
  if bucket == nil then read_gates() end
  return bucket and math.floor(bucket.tokens + 0.000001) or math.huge
end

-- Takes tokens out of the bucket, or with a number below 0 gives those of untouched tasks back.
local function spend(tasks)
  if tokens() == math.huge then return end
  bucket.tokens = bucket.tokens - tasks
  call('HSET', GATES, 'rate', bucket.rate, 'tokens', string.format('%.6f', bucket.tokens), 'filled', now)
end

local fates
-- Whether any task of the queue had trouble: most queues have none, and are not asked for each task.
local function has_fates()
  if fates == nil then fates = call('HLEN', FATE) > 0 end
  return fates
end

-- Nothing of the task is left.
local function forget(id)
  call('HDEL', TASKS, id)
  call('HDEL', FATE, id)
  call('HDEL', AGAIN, id)
end

local function fate_of(id)
  local packed = call('HGET', FATE, id)
  return packed and cmsgpack.unpack(packed) or { 0, 0, 0, 0, '' } -- retries, failures, crashes, losses, last error
end

-- Whoever waits for the result of this task looks again. The channel has the name of the key of its result.
local function tell_end(id)
  call('PUBLISH', string.sub(TASKS, 1, -6) .. 'result:' .. id, '1')
end

local function note_fate(id, fate, why)
  fate[5] = why or fate[5]
  fates = true
  call('HSET', FATE, id, cmsgpack.pack(fate))
end

local function bury(id, fate, why)
  note_fate(id, fate, why)
  call('ZADD', BURIED, now, id)
  count('burials', 1)
  tell_end(id)
end

-- The earliest time after now at which a task may be taken by the handlers of this call, or nil.
local function next_due()
  local token_at, from = now, string.format('(%.0f', now)
  if tokens() < 1 then
    token_at, from = now + math.ceil((1 - bucket.tokens) * 1000000 / bucket.rate), '-inf'
  end
  local due
  for _, schedule in ipairs(SCHEDULES) do
    if is_open(schedule) then
      local head = call('ZRANGEBYSCORE', schedule, from, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
      local at = tonumber(head[2])
      if at then due = math.min(due or math.huge, math.max(at, token_at)) end
    end
  end
  return due
end

-- How many tasks may be taken now, as far as `most`.
local function takeable(most)
  most = math.min(most, tokens())
  local sum = 0
  for _, schedule in ipairs(SCHEDULES) do
    if sum >= most then return most end
    if is_open(schedule) then sum = sum + call('ZCOUNT', schedule, '-inf', now) end
  end
  return math.min(sum, most)
end

-- When the first of those who wait wakes by itself, or nil if nobody waits.
local function first_waker()
  return tonumber(call('ZRANGEBYSCORE', WAITERS, now, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
end

-- As many tokens as there are waiters and tasks. A token swallowed by a dead slot is made good by the next call. If
-- somebody waits, somebody must wake in time for the next due task: one token where nobody would.
local function wake()
  local first = first_waker()
  if not first then return end
  local wanted = takeable(call('ZCOUNT', WAITERS, now, '+inf'))
  if wanted == 0 then
    local due = next_due()
    if not due or first <= due + 1000 then return end
    wanted = 1
  end
  for _ = call('LLEN', WAKE) + 1, wanted do call('RPUSH', WAKE, '1') end
end
