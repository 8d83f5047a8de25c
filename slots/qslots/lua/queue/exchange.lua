-- exchange: settles the previous pack, reaps what has expired, takes the next pack, wakes who waits; in this order.
--
-- with: gates fates gating locks
-- KEYS    the slots' vector; [15…] schedules of the handlers that this slot's generation knows, parking places
-- ARGV    [1] holder (incarnation of the slot)  [2] seq of this request  [3] seq of the pack to settle, "" for none
--         [4] ttl of a lock, µs  [5] time the handlers ran since the last request, µs
--         [6] how long to wait at most, µs; ten times as long where another slot of the same server does not
--         [7] most bytes of a pack  [8] 1 to take, 0 only to settle
--         [9] tasks a second that may begin, "" for any, -1 for what the bucket says
--         [10] how long ids of finished tasks stay known, µs  [11…] per schedule: most tasks of a pack
-- Returns {1, gone, expiry µs, handler, ids, records, fates or {}, activation time of the first} or {0, gone, wait µs}
--         gone: 1 if the pack to settle was taken away before; DEAD, STALE: this slot must end
-- Race    the reply is lost and the request repeated, or comes after the slot was declared dead: the same seq gets the
--         same pack again, a dead holder gets nothing.
-- flags: allow-oom

learn(15)
local holder, seq, previous = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl, busy, longest, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local MOST_WAITS, MOST_SEEN = 10, 50
local rate, window = tonumber(ARGV[9]), tonumber(ARGV[10])
local lock, waiting = string.format('%s:%d', holder, seq or 0), nil -- whether anybody waits

local function fates_of(ids)
  return has_fates() and call('HMGET', FATE, unpack(ids)) or {}
end

local function reply_of(handler, ids, records, first_due)
  local expiry, due = string.format('%.0f', now + ttl), string.format('%.0f', first_due)
  return { 1, 0, expiry, handler, ids, records, fates_of(ids), due }
end

-- The answer that was lost. The slot trusts its lock from this request on, so it gets a full ttl again.
local function answer()
  local pack = pack_of(lock)
  if not pack then return { 0, 0, 0 } end
  may_fill()
  call('ZADD', LOCKS, 'XX', now + ttl, lock)
  local handler, ids, dues = unpack(pack)
  for i = 1, #ids do ids[i] = ids[i] or '' end
  return reply_of(handler, ids, call('HMGET', TASKS, unpack(ids)), due_at(dues, 1))
end

-- The place of the schedule whose head is due longest, or nil. A single one is looked at when it is taken from.
local function due_longest()
  if #SCHEDULES == 1 then return is_open(SCHEDULES[1]) and 1 or nil end
  local best, earliest
  for place, schedule in ipairs(SCHEDULES) do
    local at = is_open(schedule) and tonumber(call('ZRANGE', schedule, 0, 0, 'WITHSCORES')[2])
    if at and at <= now and (not earliest or at < earliest) then best, earliest = place, at end
  end
  return best
end

-- A task that was lost before comes in a pack of an eighth for each loss, down to alone. Returns how many heads fit.
local function narrowed(ids, whole)
  local most = #ids
  for position, packed in ipairs(fates_of(ids)) do
    local losses = packed and cmsgpack.unpack(packed)[4] or 0
    local widest = math.max(1, math.ceil(whole / 8 ^ losses))
    if position > widest then return math.min(most, position - 1) end
    most = math.min(most, widest)
  end
  return most
end

-- How many of these tasks fit into one pack, their records, and whether one is missing. Large records beyond that are
-- hardly looked at: to read 300 MB of them kept the server busy for seconds.
local function fitting(ids, most)
  local records, bytes, holes = {}, 0, false
  for i = 1, most do
    if i > #records then read_on(records, ids, most, bytes) end
    local record = records[i]
    bytes = bytes + (record and #record or 0)
    if bytes > most_bytes and i > 1 then return i - 1, records, holes end
    holes = holes or not record
  end
  return most, records, holes
end

-- The first `size` tasks, without ids that have no record: nobody shall trip over those.
local function cut(ids, dues, records, size)
  local some_ids, some_dues, some_records = {}, {}, {}
  for i = 1, size do
    if records[i] then
      local at = #some_ids + 1
      some_ids[at], some_dues[at], some_records[at] = ids[i], due_at(dues, i), records[i]
    end
  end
  return some_ids, type(dues) == 'table' and some_dues or dues, some_records
end

-- The first tasks of a schedule, and when they were due: one time if it is that of all, as after a put of many. To have
-- the time of each written out costs as much as all the rest of a take.
local function heads_of(schedule, most)
  local first = call('ZRANGE', schedule, 0, 0, 'WITHSCORES')
  local last = most > 1 and call('ZRANGE', schedule, most - 1, most - 1, 'WITHSCORES') or first
  if first[2] == last[2] then return call('ZRANGE', schedule, 0, most - 1), first[2] end
  local heads, ids, dues = call('ZRANGE', schedule, 0, most - 1, 'WITHSCORES'), {}, {}
  for i = 1, most do
    ids[i], dues[i] = heads[2 * i - 1], heads[2 * i]
  end
  return ids, dues
end

-- Locks tasks from the head of a schedule. Returns the reply; or nil, and whether something is due behind what was
-- looked at.
local function take(place)
  local schedule, whole = SCHEDULES[place], tonumber(ARGV[place + 10])
  local active = call('ZCOUNT', schedule, '-inf', now)
  if active == 0 then return nil, false end
  local live = call('ZCARD', LOCKS) + (waiting and call('ZCOUNT', WAITERS, now, '+inf') or 0) + 1
  local clear = gates and gates.sifts and sift(schedule) or CHUNK
  local most = math.min(math.max(1, math.min(whole, math.ceil(active / live))), tokens(), clear)
  if most == 0 then return nil, true end
  local ids, dues = heads_of(schedule, most)
  local size, records, holes = fitting(ids, narrowed(ids, whole))
  if holes or size < #ids then ids, dues, records = cut(ids, dues, records, size) end
  call('ZREMRANGEBYRANK', schedule, 0, size - 1)
  if #ids == 0 then return nil, true end
  local handler = handler_of[schedule]
  call('HSET', PACKS, lock, cmsgpack.pack({ handler, ids, dues }))
  call('ZADD', LOCKS, now + ttl, lock)
  spend(#ids)
  count('taken', #ids)
  count('packs', 1)
  return reply_of(handler, ids, records, due_at(dues, 1))
end

-- Whether one of those who look again soon is a slot of the same server.
local function is_watched(soon)
  local server = string.match(holder, '^[^/]*')
  for i = 1, #soon, 2 do
    if string.match(soon[i], '^[^/]*') == server then return true end
  end
  return false
end

-- What a line through (tasks, time) of the packs is fitted to: sums over those that were done in one go. They are doubles
-- in decimals: a sum of squares would overflow HINCRBY in the end. A handler that takes one task at a time needs no line,
-- and of single tasks one in four is enough.
local SUMS = { 'pack:n', 'pack:k', 'pack:kk', 'pack:t', 'pack:kt', 'pack:tt' }
local function note_pack(handler, size)
  if busy == 0 or size == 1 and seq % 4 ~= 0 then return end
  local most = size
  for place, schedule in ipairs(SCHEDULES) do
    if handler_of[schedule] == handler then most = math.max(most, tonumber(ARGV[place + 10])) end
  end
  if most < 2 then return end
  local sums, more = call('HMGET', COUNTERS, unpack(SUMS)), { 1, size, size * size, busy, size * busy, busy * busy }
  local fields = {}
  for i, name in ipairs(SUMS) do
    fields[2 * i - 1], fields[2 * i] = name, string.format('%.0f', (tonumber(sums[i]) or 0) + more[i])
  end
  call('HSET', COUNTERS, unpack(fields))
end

-- Ends the pack before, all of it done. Returns 1 if it was taken away meanwhile, else 0.
local function settle_previous(lock)
  local pack = pack_of(lock)
  if not pack then return 1 end
  local _, ended = settle_lock(lock, {}, '', 'done', '', window)
  if ended == #pack[2] then note_pack(pack[1], ended) end
  return 0
end

-- Registers who found nothing. Of those who wait one on each server looks again soon, for nobody can tell whether a token
-- was swallowed; the others sleep the longer the more they are, to be woken. Only one wakes for the next due task.
local function wait()
  local due, soon = next_due(), call('ZRANGEBYSCORE', WAITERS, now, now + longest, 'WITHSCORES', 'LIMIT', 0, MOST_SEEN)
  local first, wakes_at = tonumber(soon[2]), now + longest
  if due and due < wakes_at and not (first and first <= due + 1000) then
    wakes_at = due
  elseif is_watched(soon) then
    wakes_at = now + longest * math.min(MOST_WAITS, call('ZCOUNT', WAITERS, now, '+inf'))
  end
  call('ZREMRANGEBYSCORE', WAITERS, '-inf', now - LONGEST_WAIT)
  call('ZADD', WAITERS, wakes_at, holder)
  count('empty', 1)
  return wakes_at - now
end

-- The rate is what the slots say; a bucket begins full. One that changes keeps its tokens, as slots of two generations
-- may say this and that by turns.
local function set_rate()
  if rate == -1 then return end
  if bucket and not rate then
    call('HDEL', GATES, 'rate', 'tokens', 'filled')
    bucket = false
  elseif rate and not (bucket and bucket.rate == rate) then
    local burst = math.max(1, rate)
    bucket = { rate = rate, tokens = bucket and math.min(burst, bucket.tokens) or burst }
    spend(0)
  end
end

if #ARGV ~= 10 + #SCHEDULES or not are_numbers(ARGV[2], unpack(ARGV, 4, 7)) then return redis.error_reply(BADARGS) end
if not are_numbers(unpack(ARGV, 10)) or ARGV[9] ~= '' and not rate then return redis.error_reply(BADARGS) end
local dead, last = is_dead(holder)
if dead then return redis.error_reply('DEAD this slot was declared dead and its tasks given back') end
last = tonumber(last and string.match(last, '^%d+')) or 0
if last > seq then return redis.error_reply('STALE a later request of this slot was served before') end
if last == seq then return answer() end
local previous_lock = string.format('%s:%s', holder, previous)
if not can_park() or previous ~= '' and not can_settle(previous_lock) then return redis.error_reply(UNNAMED) end

may_fill()
if last == 0 then forget_holders() end
call('HSET', HOLDERS, holder, string.format('%d:%.0f', seq, now))
local gone = previous ~= '' and settle_previous(previous_lock) or 0
count_busy(busy)
reap_expired(ttl)
waiting = call('EXISTS', WAITERS) == 1
if waiting then call('ZREM', WAITERS, holder) end
if ARGV[8] ~= '1' then
  wake()
  return { 0, gone, 0 }
end
set_rate()
local brought = 0
for collection, state in pairs(gates and gates.collections or {}) do
  if state == 'resuming' and brought + SIFTED <= CHUNK then brought = brought + bring_back(collection) end
end
local place, reply, more = tokens() >= 1 and due_longest(), nil, false
if place then reply, more = take(place) end
if reply then
  reply[2] = gone
  if waiting then wake() end
  return reply
end
return { 0, gone, more and 0 or wait() } -- more: what was looked at was gated or had no record
