-- Stands before every script of a queue: the names of its keys, the clock, and the moves of a task between its places.
--
-- KEYS    the queue's vector in the order of keys.py, then the schedules of the handlers that this call may touch
-- Times   µs on this server's clock. They are handed to commands as numbers (17 digits); `..` would cut them to 14.
-- Rule    check first, write after: a script that fails half-way is not rolled back.

redis.replicate_commands()
local call = redis.call
local PULSE, TASKS, PACKS, LOCKS, HOLDERS, BURIED, FATE, COUNTERS, WAITERS, WAKE, HANDLERS = unpack(KEYS, 1, 11)
local CHUNK = 1000 -- `unpack` fails near 8,000 values
local MOST_REAPED = 1000 -- tasks that one call moves beyond its own pack
local MOST_LOOKED_AT = 200 -- expired locks, those of unknown handlers included
local GAP = 5000000 -- without service for longer than this nobody is blamed for a lock not extended
local LONGEST_WAIT = 3000000
local DEAD_KEPT = 900000000 -- a late request of a dead slot is refused for 15 minutes

local clock = call('TIME')
local now = clock[1] * 1000000 + clock[2]

local SCHEDULES, schedule_of = {}, {} -- keys in the order given; handler -> key
for i = 12, #KEYS do
  local handler = string.match(KEYS[i], ':schedule:(.*)$')
  if handler then
    SCHEDULES[#SCHEDULES + 1] = KEYS[i]
    schedule_of[handler] = KEYS[i]
  end
end

local function in_chunks(command, key, values)
  for i = 1, #values, CHUNK do
    call(command, key, unpack(values, i, math.min(i + CHUNK - 1, #values)))
  end
end

-- Redis before 7 knows no allow-oom; but when memory is full it lets a script go on that has written before, even in
-- vain. For scripts that free memory in the end.
local function may_fill()
  call('HDEL', HOLDERS, '')
end

local function count(name, by)
  if by > 0 then call('HINCRBY', COUNTERS, name, by) end
end

-- Stamps the pulse; returns since when this server has served without a gap. Its clock gone back counts as a gap.
local function serving_since()
  local pulse = call('HMGET', PULSE, 'last', 'resumed')
  local last, resumed = tonumber(pulse[1]) or 0, tonumber(pulse[2]) or 0
  if now < last or now - last > GAP then
    call('HSET', PULSE, 'last', now, 'resumed', now)
    return now
  end
  if now - last > 100000 then call('HSET', PULSE, 'last', now) end
  return resumed
end

local function is_dead(holder)
  local last = call('HGET', HOLDERS, holder)
  return last and string.sub(last, 1, 4) == 'dead', last
end

-- No request of this slot is obeyed from now on. Forgets some of those that died long ago.
local function declare_dead(holder)
  call('HSET', HOLDERS, holder, string.format('dead:%.0f', now))
  local some = call('HRANDFIELD', HOLDERS, 4, 'WITHVALUES')
  for i = 1, #some, 2 do
    local died = tonumber(string.match(some[i + 1], '^dead:(%d+)$'))
    if died and died < now - DEAD_KEPT then call('HDEL', HOLDERS, some[i]) end
  end
end

local function fate_of(id)
  local packed = call('HGET', FATE, id)
  return packed and cmsgpack.unpack(packed) or { 0, 0, 0, 0, '' } -- retries, failures, crashes, losses, last error
end

-- min(cap, base * 2^(retries - 1)) with the caller's jitter
local function backoff(retries, outcome)
  return math.floor(math.min(outcome.cap, outcome.base * 2 ^ (retries - 1)) * outcome.jitter)
end

local function bury(id, fate, why)
  fate[5] = why or fate[5]
  call('HSET', FATE, id, cmsgpack.pack(fate))
  call('ZADD', BURIED, now, id)
  count('burials', 1)
end

local function again_at(id, fate, schedule, at, why)
  fate[5] = why or fate[5]
  call('HSET', FATE, id, cmsgpack.pack(fate))
  call('ZADD', schedule, at, id)
end

-- Every end of a locked task but success, by name: (id, its activation time, its schedule, what the caller says of it)
local ends = {}

function ends.fail(id, score, schedule, outcome)
  local fate = fate_of(id)
  fate[1], fate[2] = fate[1] + 1, fate[2] + 1
  count('failed', 1)
  if fate[2] >= outcome.limit then return bury(id, fate, outcome.why) end
  again_at(id, fate, schedule, now + (outcome.delay or backoff(fate[1], outcome)), outcome.why)
end

function ends.crash(id, score, schedule, outcome)
  local fate = fate_of(id)
  fate[1], fate[3], fate[4] = fate[1] + 1, fate[3] + 1, fate[4] + 1
  count('crashed', 1)
  if fate[3] >= outcome.limit then return bury(id, fate, outcome.why) end
  again_at(id, fate, schedule, now + backoff(fate[1], outcome), outcome.why)
end

function ends.retry(id, score, schedule, outcome)
  local fate = fate_of(id)
  fate[1] = fate[1] + 1
  again_at(id, fate, schedule, now + (outcome.delay or backoff(fate[1], outcome)), outcome.why)
end

-- Not its own fault, as far as anybody knows: it keeps its turn, but in a narrower pack.
function ends.loss(id, score, schedule, outcome)
  local fate = fate_of(id)
  fate[4] = fate[4] + 1
  count('lost', 1)
  again_at(id, fate, schedule, outcome.delay and math.max(score, now + outcome.delay) or score, outcome.why)
end

function ends.postpone(id, score, schedule, outcome)
  call('ZADD', schedule, outcome.at or (now + outcome.delay), id)
end

function ends.back(id, score, schedule) call('ZADD', schedule, score, id) end

function ends.bury(id, score, schedule, outcome) bury(id, fate_of(id), outcome.why) end

-- Ends the tasks of one lock. said: position -> outcome; marks: one byte a position, '\1' means done; rest: what befalls
-- all others: 'done', 'back', 'loss' or 'keep' (they stay locked). Returns false if the lock is gone, else true.
local function settle_lock(lock, said, marks, rest, why)
  local packed = call('HGET', PACKS, lock)
  if not packed then return false end
  local pack = cmsgpack.unpack(packed)
  local schedule, done, left, returned = schedule_of[pack[1]], {}, 0, 0
  for i = 2, #pack, 2 do
    local position, id = i / 2, pack[i]
    local outcome = said[position]
    local kind = outcome and outcome.kind or (string.byte(marks, position) == 1 and 'done') or rest
    if not id or kind == 'keep' then
      left = left + (id and 1 or 0)
    else
      if kind == 'done' then
        done[#done + 1] = id
      else
        returned = returned + (kind == 'back' and 1 or 0)
        ends[kind](id, pack[i + 1], schedule, outcome or { why = why })
      end
      pack[i] = false
    end
  end
  if #done > 0 then
    in_chunks('HDEL', TASKS, done)
    if call('HLEN', FATE) > 0 then in_chunks('HDEL', FATE, done) end
    count('done', #done)
  end
  count('returned', returned)
  if left > 0 or rest == 'keep' then
    call('HSET', PACKS, lock, cmsgpack.pack(pack))
  else
    call('HDEL', PACKS, lock)
    call('ZREM', LOCKS, lock)
  end
  return true
end

-- What a script must know before it writes: that the pack of this lock, if there is one, can be put back.
local function can_settle(lock)
  local packed = call('HGET', PACKS, lock)
  return not packed or schedule_of[cmsgpack.unpack(packed)[1]] ~= nil
end

-- Takes back what nobody vouches for any more: its holder is dead from now on, and nobody is charged a crash.
local function reap_expired(ttl)
  if now - serving_since() < ttl then return end
  local moved, reaped = 0, 0
  for _, lock in ipairs(call('ZRANGEBYSCORE', LOCKS, '-inf', now, 'LIMIT', 0, MOST_LOOKED_AT)) do
    if moved >= MOST_REAPED or reaped >= 20 then return end
    if can_settle(lock) then -- else it waits for a slot that knows its handler
      reaped = reaped + 1
      local packed = call('HGET', PACKS, lock)
      moved = moved + (packed and #cmsgpack.unpack(packed) / 2 or 0)
      declare_dead(string.match(lock, '^(.*):%d+$'))
      if not settle_lock(lock, {}, '', 'loss', 'its lock expired: the server that held it was lost') then
        call('ZREM', LOCKS, lock)
      end
    end
  end
end

-- The earliest activation time after now among the handlers of this call, or nil.
local function next_due()
  local due
  for _, schedule in ipairs(SCHEDULES) do
    local head = call('ZRANGEBYSCORE', schedule, string.format('(%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    local at = tonumber(head[2])
    if at and (not due or at < due) then due = at end
  end
  return due
end

local function takeable(most)
  local sum = 0
  for _, schedule in ipairs(SCHEDULES) do
    sum = sum + call('ZCOUNT', schedule, '-inf', now)
    if sum >= most then return most end
  end
  return sum
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
