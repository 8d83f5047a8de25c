-- For scripts of slots and those who settle for them: packs, their locks, and the ways in which a locked task can end.
--
-- KEYS    [12…15] follow the queue's vector

local PACKS, LOCKS, HOLDERS, PULSE = unpack(KEYS, 12, 15)
local MOST_REAPED = 1000 -- tasks that one call moves beyond its own pack
local MOST_LOOKED_AT = 200 -- expired locks, those of unknown handlers included
local GAP = 5000000 -- without service for longer than this nobody is blamed for a lock not extended
local LONGEST_WAIT = 3000000
local DEAD_KEPT = 900000000 -- a late request of a dead slot is refused for 15 minutes

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

-- min(cap, base * 2^(retries - 1)) with the caller's jitter
local function backoff(retries, outcome)
  return math.floor(math.min(outcome.cap, outcome.base * 2 ^ (retries - 1)) * outcome.jitter)
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

-- What was said of a task while it was locked stands above any outcome.
local function said_meanwhile(id, kind, schedule)
  local packed = call('HGET', AGAIN, id)
  if not packed then return false end
  local wish, at, record = unpack(cmsgpack.unpack(packed))
  call('HDEL', AGAIN, id)
  if wish == 'gone' then
    call('HDEL', TASKS, id)
    count('deleted', 1)
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
  if call('HLEN', FATE) > 0 then in_chunks('HDEL', FATE, done) end
  if window > 0 then note_finished(done, window) end
  count('done', #done)
end

-- The common case: the whole pack is done, and nobody has said anything of its tasks meanwhile.
local function end_whole(lock, heads, window)
  local done = {}
  for i = 1, #heads, 2 do
    if heads[i] then done[#done + 1] = heads[i] end
  end
  all_done(done, window)
  call('HDEL', PACKS, lock)
  call('ZREM', LOCKS, lock)
end

-- Ends the tasks of one lock. said: position -> outcome; marks: one byte a position, '\1' means done; rest: what befalls
-- all others: 'done', 'back', 'loss' or 'keep' (they stay locked); window: how long finished ids stay known, µs;
-- results: position -> {place of its key, place of the result among ARGV, how long to keep it, ms}.
-- Returns false if the lock is gone, else true.
local function settle_lock(lock, said, marks, rest, why, window, results)
  local packed = call('HGET', PACKS, lock)
  if not packed then return false end
  local handler, heads = unpack(cmsgpack.unpack(packed))
  local schedule, spoken = schedule_of[handler], call('HLEN', AGAIN) > 0
  if rest == 'done' and not spoken then
    end_whole(lock, heads, window)
    return true
  end
  local done, left, returned = {}, 0, 0
  for i = 1, #heads, 2 do
    local position, id = (i + 1) / 2, heads[i]
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
        ends[kind](id, tonumber(heads[i + 1]), schedule, outcome or { why = why })
      end
      local kept = results and results[position]
      if kept then
        call('SET', KEYS[kept[1]], ARGV[kept[2]], 'PX', kept[3])
        tell_end(id)
      end
      heads[i] = false
    end
  end
  all_done(done, window or 0)
  count('returned', returned)
  spend(-returned)
  if left > 0 or rest == 'keep' then
    call('HSET', PACKS, lock, cmsgpack.pack({ handler, heads }))
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
  local moved, reaped = 0, 0
  if now - serving_since() < ttl then return moved end
  for _, lock in ipairs(call('ZRANGEBYSCORE', LOCKS, '-inf', now, 'LIMIT', 0, MOST_LOOKED_AT)) do
    if moved >= MOST_REAPED or reaped >= 20 then return moved end
    if can_settle(lock) then -- else it waits for a slot that knows its handler
      reaped = reaped + 1
      local packed = call('HGET', PACKS, lock)
      moved = moved + (packed and #cmsgpack.unpack(packed)[2] / 2 or 0)
      declare_dead(string.match(lock, '^(.*):%d+$'))
      if not settle_lock(lock, {}, '', 'loss', 'its lock expired: the server that held it was lost') then
        call('ZREM', LOCKS, lock)
      end
    end
  end
  return moved
end
