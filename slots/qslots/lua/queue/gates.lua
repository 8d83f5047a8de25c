-- For scripts that ask what may be taken now and when the next may: what is paused, the rate, and who is to be woken.

local gates, bucket -- false if there are none
local WATCHED = 4000000 -- where slots wait one of them looks within so long: its 3 s, their jitter, and a bit

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
-- somebody waits, somebody must wake in time for the next due task, and look soon in any case: one token where nobody
-- would.
local function wake()
  local first = first_waker()
  if not first then return end
  local wanted = takeable(call('ZCOUNT', WAITERS, now, '+inf'))
  if wanted == 0 then
    if first <= math.min(next_due() or math.huge, now + WATCHED) + 1000 then return end
    wanted = 1
  end
  for _ = call('LLEN', WAKE) + 1, wanted do call('RPUSH', WAKE, '1') end
end
