-- tick: stores the next ticks of a periodic handler, and takes back those that shall not run.
--
-- with: gates fates
-- KEYS    the queue's vector; [11] ticks; [12] the set of all queues; [13] the handler's schedule
-- ARGV    [1] queue  [2] handler  [3] what was read in ticks, "" for nothing  [4] the schedule in words
--         [5] last instant that came  [6] ticks missed  [7] ticks dropped, as read
--         [8] instant up to which nothing is to be stored  [9] instant up to which all is said  [10] id of the last tick
--         [11] 'alone' if a tick needs its predecessor's end  [12] 'newest' if of those that wait and are due one is enough
--         [13] 'withdraw' if those whose time has not come are to go  [14] record without its stamp
--         [15] [[instant, id], …] of those that waited when it was read, ascending  [16] the same of those to be stored
-- Returns 1; 0: something else is in ticks by now, nothing was done
-- Race    two managers, or one whose reply was lost, store the same tick: whoever comes second has read what is no longer
--         there, whether the tick waits, runs or is long done. A tick that became due after it was read is not withdrawn.
-- flags:

learn(13)
local TICKS, schedule, handler = KEYS[11], KEYS[13], ARGV[2]
if not (schedule and are_numbers(unpack(ARGV, 5, 9)) and ARGV[16]) then return redis.error_reply(BADARGS) end
if (call('HGET', TICKS, handler) or '') ~= ARGV[3] then return 0 end
local last, missed, dropped = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local begin, upto = tonumber(ARGV[8]), tonumber(ARGV[9])
local alone, newest, withdraw = ARGV[11] == 'alone', ARGV[12] == 'newest', ARGV[13] == 'withdraw'
local predecessor, waits, kept, said, removed, stored = ARGV[10], nil, {}, {}, 0, 0

local function micros(instant)
  return instant * 1000000
end

local function remove(id)
  call('ZREM', schedule, id)
  forget(id)
  tell_end(id)
  removed = removed + 1
end

-- A tick whose time has come and that nobody has taken: it makes room for the next one.
local function is_due(instant, id)
  if newest and waits then
    remove(waits[2])
    missed = missed + 1
  end
  waits = { instant, id }
end

for _, tick in ipairs(cmsgpack.unpack(ARGV[15])) do
  local instant, id = tick[1], tick[2]
  local ahead, at = micros(instant) > now, tonumber(call('ZSCORE', schedule, id))
  if ahead and withdraw and at == micros(instant) then
    remove(id)
  else
    said[instant], predecessor = true, id
    if ahead then
      kept[#kept + 1] = instant
    else
      last = math.max(last, instant)
      if at and at <= now and call('HEXISTS', FATE, id) == 0 then is_due(instant, id) end
    end
  end
end

-- A buried one stands in nobody's way.
local function is_alive(id)
  return call('HEXISTS', TASKS, id) == 1 and not call('ZSCORE', BURIED, id)
end

-- It was put, as far as a drop is concerned, when its time came.
local function store(instant, id)
  local at = math.max(now, micros(instant))
  call('HSET', TASKS, id, struct.pack('>d', at) .. ARGV[14])
  call('ZADD', schedule, at, id)
  stored, predecessor = stored + 1, id
  if micros(instant) > now then
    kept[#kept + 1] = instant
  else
    last = math.max(last, instant)
    is_due(instant, id)
  end
end

local cursor = upto
for _, tick in ipairs(cmsgpack.unpack(ARGV[16])) do
  local instant, id = tick[1], tick[2]
  if instant > begin and not said[instant] and call('HEXISTS', TASKS, id) == 0 then
    if not (alone and is_alive(predecessor)) then
      store(instant, id)
    elseif micros(instant) > now then -- its predecessor may be over until then
      cursor = math.max(begin, instant - 1)
      break
    else
      dropped = dropped + 1
    end
  end
end
if waits and newest then table.insert(kept, 1, waits[1]) end

call('HSET', TICKS, handler, cmsgpack.pack({ cursor, last, missed, dropped, ARGV[4], kept }))
count_put(handler, stored, KEYS[12], ARGV[1])
count('deleted', removed)
if stored > 0 and call('EXISTS', WAITERS) == 1 then wake() end
return 1
