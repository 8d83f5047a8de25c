-- For scripts that meet tasks of paused or dropped collections at the head of a schedule.
--
-- A paused task stays in its schedule until it is due there; then it moves to the parking place of its collection, so
-- that a million of them at the head are passed over once and not by every take.

local SIFTED = 200 -- heads that one call looks at
local SIFTED_BYTES = 4194304 -- about as many bytes of records that it reads
local PORTION = 32 -- records read at once where they may be large: of 1 MB, 32 MB

-- Reads the next few records of these tasks, false for one that is missing; twice as many each time while they are small.
local function read_on(records, ids, most, bytes)
  local from = #records
  local size = bytes < 16384 * from and from or PORTION
  for i, record in ipairs(call('HMGET', TASKS, unpack(ids, from + 1, math.min(from + size, most)))) do
    records[from + i] = record
  end
end

-- Whether every parking place that gates may need was named.
local function can_park()
  for collection in pairs(gated() and gates.collections or {}) do
    if not parked_of[collection] then return false end
  end
  return true
end

-- Whether a task was put before the drop of its queue or collection.
local function is_dropped(record, collection)
  local drops = gates.drops
  return put_time(record) <= math.max(drops[''] or 0, drops[collection] or 0)
end

-- Parks or discards the gated among the first due tasks of a schedule; returns how many heads may be taken.
local function sift(schedule)
  local heads = call('ZRANGEBYSCORE', schedule, '-inf', now, 'WITHSCORES', 'LIMIT', 0, SIFTED)
  local ids, records, clear, bytes = {}, {}, 0, 0
  for i = 1, #heads, 2 do ids[#ids + 1] = heads[i] end
  for position, id in ipairs(ids) do
    if position > #records then
      if bytes > SIFTED_BYTES then return clear end
      read_on(records, ids, #ids, bytes)
    end
    local record = records[position]
    local _, collection = named_in(record or '')
    bytes = bytes + (record and #record or 0)
    if record and is_dropped(record, collection) then
      call('ZREM', schedule, id)
      forget(id)
      tell_end(id)
      count('dropped', 1)
    elseif gates.collections[collection] == 'paused' then
      call('ZREM', schedule, id)
      call('ZADD', parked_of[collection], heads[2 * position], id)
    else
      clear = clear + 1
    end
  end
  return clear
end

-- Brings tasks of a collection that was resumed back to their schedules; the gate goes with the last of them.
local function bring_back(collection)
  local parked, moved, bytes = parked_of[collection], 0, 0
  local heads = call('ZRANGE', parked, 0, SIFTED - 1, 'WITHSCORES')
  for i = 1, #heads, 2 do
    if bytes > SIFTED_BYTES then return moved end
    local record = call('HGET', TASKS, heads[i])
    bytes = bytes + (record and #record or 0)
    local schedule = schedule_of[record and named_in(record)]
    if schedule or not record then
      call('ZREM', parked, heads[i])
      if record then call('ZADD', schedule, heads[i + 1], heads[i]) end
      moved = moved + 1
    end
  end
  if call('ZCARD', parked) == 0 then call('HDEL', GATES, 'collection:' .. collection) end
  return moved
end
