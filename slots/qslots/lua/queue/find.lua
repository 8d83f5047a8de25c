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

-- From behind the last id of the page before; if that has left, from its score on, without what was given already.
local function ranged()
  local score, last = string.match(cursor, '^(%d+) (.*)$')
  local rank = last and call('ZRANK', index, last)
  local start = rank and rank + 1 or score and call('ZCOUNT', index, '-inf', '(' .. score) or 0
  local page = call('ZRANGE', index, start, start + size - 1, 'WITHSCORES')
  local ids = {}
  for i = 1, #page, 2 do
    local at = string.format('%.0f', page[i + 1])
    if not (at == score and page[i] <= last) then ids[#ids + 1] = page[i] end
    cursor = at .. ' ' .. page[i]
  end
  return { #page < 2 * size and '' or cursor, ids }
end

return string.match(index, '}:tasks$') and scanned() or ranged()
