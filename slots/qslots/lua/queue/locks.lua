-- For scripts of slots and those who settle for them: packs, their locks, and the ways in which a locked task can end.
--
-- KEYS    [11…14] follow the queue's vector

local PACKS, LOCKS, HOLDERS, PULSE = unpack(KEYS, 11, 14)
local MOST_REAPED = 1000 -- tasks that one call moves beyond its own pack
local MOST_LOOKED_AT = 200 -- expired locks, those of unknown handlers included
local GAP = 5000000 -- without service for longer than this nobody is blamed for a lock not extended
local LONGEST_WAIT = 30000000
local HOLDER_KEPT = 900000000 -- a late request of a slot that is dead, or served before, is refused for 15 minutes

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

-- Looks at some slots, and forgets those that have died, or asked here for the last time, long ago: a slot may serve other
-- queues now, and die there. One that still holds what it asked for is not forgotten.
local function forget_holders(most)
  local some = call('HRANDFIELD', HOLDERS, most or 4, 'WITHVALUES')
  for i = 1, #some, 2 do
    local seq, at = string.match(some[i + 1], '^(%w+):(%d+)$')
    if at and tonumber(at) < now - HOLDER_KEPT and call('HEXISTS', PACKS, string.format('%s:%s', some[i], seq)) == 0 then
      call('HDEL', HOLDERS, some[i])
    end
  end
end

-- No request of this slot is obeyed from now on.
local function declare_dead(holder)
  call('HSET', HOLDERS, holder, string.format('dead:%.0f', now))
  forget_holders()
end

-- Ends a locked task other than by success: (how, id, its activation time, its schedule, what the caller says of it).
-- The delay of a task that is to run again: the one asked for, else min(cap, base * 2^(retries - 1)) with jitter.
local function end_task(how, id, score, schedule, outcome)
  if how == 'back' then return call('ZADD', schedule, score, id) end
  if how == 'postpone' then
    return call('ZADD', schedule, outcome.at or now + (outcome.delay or math.floor(outcome.base * outcome.jitter)), id)
  end
  local fate, limit = fate_of(id), outcome.limit or 0
  if how == 'bury' then return bury(id, fate, outcome.why) end
  local at = now + (outcome.delay or 0)
  if how == 'loss' then
    -- Not its own fault, as far as anybody knows: it keeps its turn, but in a narrower pack.
    fate[4] = fate[4] + 1
    count('lost', 1)
    at = outcome.delay and math.max(score, at) or score
  else
    fate[1] = fate[1] + 1
    if not outcome.delay then
      at = now + math.floor(math.min(outcome.cap, outcome.base * 2 ^ (fate[1] - 1)) * outcome.jitter)
    end
  end
  if how == 'fail' then
    fate[2] = fate[2] + 1
    count('failed', 1)
    if fate[2] >= limit then return bury(id, fate, outcome.why) end
  elseif how == 'crash' then
    fate[3], fate[4] = fate[3] + 1, fate[4] + 1
    count('crashed', 1)
    if fate[3] >= limit then return bury(id, fate, outcome.why) end
  end
  note_fate(id, fate, outcome.why)
  call('ZADD', schedule, at, id)
end

-- What was said of a task while it was locked stands above any outcome.
local function said_meanwhile(id, kind, schedule)
  local packed = call('HGET', AGAIN, id)
  if not packed then return false end
  local wish, at, record = unpack(cmsgpack.unpack(packed))
  call('HDEL', AGAIN, id)
  if wish == 'gone' then
    call('HDEL', TASKS, id)
    count(at, 1) -- deleted or dropped
    tell_end(id)
  else
    if record then call('HSET', TASKS, id, record) end
    call('ZADD', schedule, at, id)
  end
  if wish ~= 'rearm' or kind == 'done' then call('HDEL', FATE, id) end
  return true
end

-- The ids of finished tasks stay known for a while where the queue asks for it. Forgets twice as many as it notes.
local function note_finished(done, window)
  local noted = {}
  for i, id in ipairs(done) do noted[2 * i - 1], noted[2 * i] = now + window, id end
  in_chunks('ZADD', FINISHED, noted)
  local old = call('ZRANGEBYSCORE', FINISHED, '-inf', now, 'LIMIT', 0, 2 * #done)
  if #old > 0 then in_chunks('ZREM', FINISHED, old) end
end

local function all_done(done, window)
  if #done == 0 then return end
  in_chunks('HDEL', TASKS, done)
  if has_fates() then in_chunks('HDEL', FATE, done) end
  if window > 0 then note_finished(done, window) end
  count('done', #done)
end

local packs = {}
-- The pack of a lock, [handler, [id, …], activation time of all or [of each, …]], or nil; unpacked once. The id of a task
-- that has ended is false.
local function pack_of(lock)
  if packs[lock] == nil then
    local packed = call('HGET', PACKS, lock)
    packs[lock] = packed and cmsgpack.unpack(packed) or false
  end
  return packs[lock] or nil
end

-- The time that handlers ran in one go, µs; `took:N` counts how often it was below 2^N and not below half of that.
local function count_busy(busy)
  if busy <= 0 then return end
  count('busy', busy)
  local _, power = math.frexp(busy)
  count(string.format('took:%d', power), 1)
end

-- Whether the task at this position of a pack has not ended yet.
local function is_held(lock, position)
  local pack = pack_of(lock)
  return pack and pack[2][position]
end

local function unlock(lock)
  packs[lock] = nil
  call('HDEL', PACKS, lock)
  call('ZREM', LOCKS, lock)
end

-- When the task at this position of a pack was due, as text.
local function due_at(dues, position) return type(dues) == 'table' and dues[position] or dues end

-- The common case: the whole pack is done, and nobody has said anything of its tasks meanwhile. Returns how many ended.
local function end_whole(lock, ids, window)
  local done = {}
  for _, id in ipairs(ids) do
    if id then done[#done + 1] = id end
  end
  all_done(done, window)
  unlock(lock)
  return #done
end

-- Ends the tasks of one lock. said: position -> outcome; marks: one byte a position, '\1' means done; rest: what befalls
-- all others: 'done', 'back', 'loss' or 'keep' (they stay locked); window: how long finished ids stay known, µs;
-- results: position -> {place of its key, place of the result among ARGV, how long to keep it, ms, whether the value is
-- missing in it}.
-- Returns false if the lock is gone, else true and how many tasks have ended by this.
local function settle_lock(lock, said, marks, rest, why, window, results)
  local pack = pack_of(lock)
  if not pack then return false end
  local handler, ids, dues = unpack(pack)
  local schedule, spoken = schedule_of[handler], call('HLEN', AGAIN) > 0
  if rest == 'done' and not spoken then
    return true, end_whole(lock, ids, window)
  end
  local done, left, returned, ended = {}, 0, 0, 0
  for position, id in ipairs(ids) do
    local outcome = said[position]
    local kind = outcome and outcome.kind or (string.byte(marks, position) == 1 and 'done') or rest
    if not id or kind == 'keep' then
      left = left + (id and 1 or 0)
    else
      if spoken and said_meanwhile(id, kind, schedule) then
        count(kind == 'done' and 'done' or 'renewed', 1)
      elseif kind == 'done' then
        done[#done + 1] = id
      else
        returned = returned + (kind == 'back' and 1 or 0)
        end_task(kind, id, tonumber(due_at(dues, position)), schedule, outcome or { why = why })
      end
      local kept = results and results[position]
      if kept then
        call('SET', KEYS[kept[1]], ARGV[kept[2]], 'PX', kept[3])
        count('unkept', kept[4] and 1 or 0)
        tell_end(id)
      end
      ids[position] = false
      ended = ended + 1
    end
  end
  all_done(done, window or 0)
  count('returned', returned)
  if returned > 0 then spend(-returned) end
  if left > 0 or rest == 'keep' then
    call('HSET', PACKS, lock, cmsgpack.pack(pack))
  else
    unlock(lock)
  end
  return true, ended
end

-- What a script must know before it writes: that the pack of this lock, if there is one, can be put back.
local function can_settle(lock)
  local pack = pack_of(lock)
  return not pack or schedule_of[pack[1]] ~= nil
end

-- Takes back what nobody vouches for any more: its holder is dead from now on, and nobody is charged a crash.
local function reap_expired(ttl)
  local moved, reaped = 0, 0
  if now - serving_since() < ttl then
    -- Each lock has a full life again, and no more: one from before the clock went back would live as much longer.
    for _, lock in ipairs(call('ZRANGEBYSCORE', LOCKS, string.format('(%.0f', now + ttl), '+inf', 'LIMIT', 0, MOST_LOOKED_AT)) do
      call('ZADD', LOCKS, 'XX', now + ttl, lock)
    end
    return moved
  end
  for _, lock in ipairs(call('ZRANGEBYSCORE', LOCKS, '-inf', now, 'LIMIT', 0, MOST_LOOKED_AT)) do
    if moved >= MOST_REAPED or reaped >= 20 then return moved end
    if can_settle(lock) then -- else it waits for a slot that knows its handler
      reaped = reaped + 1
      local pack = pack_of(lock)
      moved = moved + (pack and #pack[2] or 0)
      declare_dead(string.match(lock, '^(.*):%d+$'))
      if not settle_lock(lock, {}, '', 'loss', 'its lock expired: the server that held it was lost') then
        call('ZREM', LOCKS, lock)
      end
    end
  end
  return moved
end
