-- For scripts that look at single tasks from outside: where a task is, and how it is taken out of there.
--
-- A task of `tasks` is in exactly one place: the schedule of its handler, the parking place of its collection, `buried`,
-- or the pack of a slot. The last is known by the others not having it, so no pack is searched.

-- A record that names no handler of this queue cannot be read; it may stand in any schedule.
local function stray_schedule(id)
  for _, schedule in ipairs(SCHEDULES) do
    if call('ZSCORE', schedule, id) then return schedule end
  end
end

-- Returns scheduled | parked | buried | locked, the score there, and the key; or nil, UNNAMED.
local function place_of(id, record)
  local handler, collection = named_in(record)
  local schedule, parked = schedule_of[handler], parked_of[collection]
  local score = schedule and call('ZSCORE', schedule, id)
  if score then return 'scheduled', tonumber(score), schedule end
  score = parked and call('ZSCORE', parked, id)
  if score then return 'parked', tonumber(score), parked end
  score = call('ZSCORE', BURIED, id)
  if score then return 'buried', tonumber(score), BURIED end
  if not schedule then
    if call('SISMEMBER', HANDLERS, handler) == 1 then return nil, UNNAMED end
    schedule = stray_schedule(id)
    if schedule then return 'scheduled', tonumber(call('ZSCORE', schedule, id)), schedule end
  end
  local gate = not parked and gated() and gates.collections[collection]
  if gate then return nil, UNNAMED end
  return 'locked', 0, nil
end

-- {id, record, place, score, fate or false, gone | rearm | replace or false}; false for an unknown id; nil, UNNAMED.
local function described(id)
  local record = call('HGET', TASKS, id)
  if not record then return false end
  local place, score = place_of(id, record)
  if not place then return nil, score end
  local wish = call('HGET', AGAIN, id)
  return { id, record, place, string.format('%.0f', score), call('HGET', FATE, id), wish and cmsgpack.unpack(wish)[1] }
end

-- The place of a task that is to be changed: (place, score, key, record), or nil and the refusal.
local function changeable(id)
  local record = call('HGET', TASKS, id)
  if not record then return nil, 'UNKNOWN ' .. id end
  local place, score, key = place_of(id, record)
  if not place then return nil, score end
  return place, score, key, record
end
