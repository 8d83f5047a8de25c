-- exchange: settles the previous pack, reaps what has expired, takes the next pack, wakes who waits; in this order.
--
-- KEYS    the vector; [12…] schedules of the handlers that this slot's generation knows
-- ARGV    [1] holder (incarnation of the slot)  [2] seq of this request  [3] seq of the pack to settle, "" for none
--         [4] ttl of a lock, µs  [5] time the handlers ran since the last request, µs  [6] how long to wait at most, µs
--         [7] most bytes of a pack  [8] 1 to take, 0 only to settle  [9…] per schedule: most tasks of a pack
-- Returns {1, gone, expiry µs, handler, ids, records, fates or {}, activation time of the first} or {0, gone, wait µs}
--         gone: 1 if the pack to settle was taken away before; DEAD, STALE: this slot must end
-- Race    the reply is lost and the request repeated, or comes after the slot was declared dead: the same seq gets the
--         same pack again, a dead holder gets nothing.
-- flags: allow-oom

local holder, seq, previous = ARGV[1], tonumber(ARGV[2]), ARGV[3]
local ttl, busy, longest, most_bytes = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local lock = string.format('%s:%d', holder, seq)

-- The answer that was lost. The slot trusts its lock from this request on, so it gets a full ttl again.
local function answer(gone)
  local packed = call('HGET', PACKS, lock)
  if not packed then return { 0, gone, 0 } end
  may_fill()
  call('ZADD', LOCKS, 'XX', now + ttl, lock)
  local pack, ids, fates = cmsgpack.unpack(packed), {}, {}
  for i = 2, #pack, 2 do ids[#ids + 1] = pack[i] or '' end
  if call('HLEN', FATE) > 0 then fates = call('HMGET', FATE, unpack(ids)) end
  local expiry, due = string.format('%.0f', now + ttl), string.format('%.0f', pack[3])
  return { 1, gone, expiry, pack[1], ids, call('HMGET', TASKS, unpack(ids)), fates, due }
end

-- The place of the schedule whose head is due longest, or nil.
local function due_longest()
  local best, earliest
  for place, schedule in ipairs(SCHEDULES) do
    local at = tonumber(call('ZRANGE', schedule, 0, 0, 'WITHSCORES')[2])
    if at and at <= now and (not earliest or at < earliest) then best, earliest = place, at end
  end
  return best
end

-- A task that was lost before comes in a pack of an eighth for each loss, down to alone. Returns how many heads fit.
local function narrowed(heads, most, whole)
  if call('HLEN', FATE) == 0 then return most end
  local ids = {}
  for i = 1, #heads, 2 do ids[#ids + 1] = heads[i] end
  for position, packed in ipairs(call('HMGET', FATE, unpack(ids))) do
    local losses = packed and cmsgpack.unpack(packed)[4] or 0
    local widest = math.max(1, math.ceil(whole / 8 ^ losses))
    if position > widest then return math.min(most, position - 1) end
    most = math.min(most, widest)
  end
  return most
end

-- Locks up to `most` tasks from the head of a schedule. Ids without a record are left out, so nobody trips over them.
local function take(place)
  local schedule, whole = SCHEDULES[place], tonumber(ARGV[place + 8])
  local live = call('ZCARD', LOCKS) + call('ZCOUNT', WAITERS, now, '+inf') + 1
  local active = call('ZCOUNT', schedule, '-inf', now)
  local most = math.max(1, math.min(whole, math.ceil(active / live), CHUNK))
  local heads = call('ZRANGEBYSCORE', schedule, '-inf', now, 'WITHSCORES', 'LIMIT', 0, most)
  most = math.min(narrowed(heads, most, whole), #heads / 2)
  local ids = {}
  for i = 1, most do ids[i] = heads[2 * i - 1] end
  local handler = string.match(schedule, ':schedule:(.*)$')
  local pack, taken, records, bytes, looked = { handler }, {}, {}, 0, 0
  for i, record in ipairs(call('HMGET', TASKS, unpack(ids))) do
    bytes = bytes + (record and #record or 0)
    if #taken > 0 and bytes > most_bytes then break end
    looked = i
    if record then
      taken[#taken + 1], records[#records + 1] = ids[i], record
      pack[#pack + 1], pack[#pack + 2] = ids[i], tonumber(heads[2 * i])
    end
  end
  call('ZREMRANGEBYRANK', schedule, 0, looked - 1)
  if #taken == 0 then return nil end
  call('HSET', PACKS, lock, cmsgpack.pack(pack))
  call('ZADD', LOCKS, now + ttl, lock)
  count('taken', #taken)
  count('packs', 1)
  local fates = {}
  if call('HLEN', FATE) > 0 then fates = call('HMGET', FATE, unpack(taken)) end
  return { 1, 0, string.format('%.0f', now + ttl), handler, taken, records, fates, heads[2] }
end

-- Registers who found nothing. Only one of those who wait wakes for the next due task; the others sleep on.
local function wait()
  local due, first = next_due(), first_waker()
  local wakes_at = now + longest
  if due and due < wakes_at and not (first and first <= due + 1000) then wakes_at = due end
  call('ZREMRANGEBYSCORE', WAITERS, '-inf', now - 10 * LONGEST_WAIT)
  call('ZADD', WAITERS, wakes_at, holder)
  count('empty', 1)
  return wakes_at - now
end

local dead, last = is_dead(holder)
if dead then return redis.error_reply('DEAD this slot was declared dead and its tasks given back') end
last = tonumber(last) or 0
if last > seq then return redis.error_reply('STALE a later request of this slot was served before') end
if last == seq then return answer(0) end
local previous_lock = string.format('%s:%s', holder, previous)
if previous ~= '' and not can_settle(previous_lock) then
  return redis.error_reply('NOSCHEDULE the handler of the pack to settle was not named')
end

may_fill()
call('HSET', HOLDERS, holder, seq)
local gone = 0
if previous ~= '' and not settle_lock(previous_lock, {}, '', 'done') then gone = 1 end
count('busy', busy)
reap_expired(ttl)
call('ZREM', WAITERS, holder)
if ARGV[8] ~= '1' then
  wake()
  return { 0, gone, 0 }
end
local place = due_longest()
local reply = place and take(place)
if reply then
  reply[2] = gone
  wake()
elseif place then
  reply = { 0, gone, 0 } -- only ids without a record stood there; what follows them may be due
else
  reply = { 0, gone, wait() }
end
return reply
