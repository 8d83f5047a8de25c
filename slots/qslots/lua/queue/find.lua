-- find: one page of ids of an index, so that a queue of any length is looked through without blocking the server.
--
-- with: nothing
-- KEYS    [1] the index: tasks (in no order); buried, a schedule, a parking place (in the order of time)
-- ARGV    [1] cursor: "" to begin  [2] about how many
-- Returns {cursor of the next page or "", ids}
-- Race    tasks come and go between pages: what is there all the time is given; of what moves, nothing is promised.
-- flags: no-writes allow-oom

local call, index, cursor, size = redis.call, KEYS[1], ARGV[1], tonumber(ARGV[2])

local function scanned()
  local answer = call('HSCAN', index, cursor == '' and '0' or cursor, 'COUNT', size)
  local ids = {}
  for i = 1, #answer[2], 2 do ids[#ids + 1] = answer[2][i] end
  return { answer[1] == '0' and '' or answer[1], ids }
end

-- Whether an id stands behind another in a sorted set: by its bytes. Lua's own < would follow the server's locale.
local function is_behind(id, other)
  for i = 1, math.min(#id, #other) do
    local one, two = string.byte(id, i), string.byte(other, i)
    if one ~= two then return one > two end
  end
  return #id > #other
end

-- The rank of the first task behind this place in the order; the task that stood there may have left or been moved.
local function rank_behind(score, last)
  local low, high = call('ZCOUNT', index, '-inf', '(' .. score), call('ZCOUNT', index, '-inf', score)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if is_behind(call('ZRANGE', index, middle, middle)[1], last) then high = middle else low = middle + 1 end
  end
  return low
end

local function ranged()
  local score, last = string.match(cursor, '^(%d+) (.*)$')
  local start = score and rank_behind(score, last) or 0
  local page = call('ZRANGE', index, start, start + size - 1, 'WITHSCORES')
  local ids = {}
  for i = 1, #page, 2 do ids[#ids + 1] = page[i] end
  if #ids < size then return { '', ids } end
  return { string.format('%.0f', page[#page]) .. ' ' .. ids[#ids], ids }
end

return string.match(index, '}:tasks$') and scanned() or ranged()
