-- For scripts that note what befell a task: its fate, its burial, and who waits for its end.

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
