-- drop: discards what was put before an instant, a page of the queue at a time.
--
-- with: gating places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] collection, "" for the whole queue  [2] instant µs, "" to begin: now  [3] cursor, "" to begin
--         [4] about how many tasks to look at
-- Returns {instant, cursor of the next page or "" at the end, tasks looked at, discarded, bytes looked at}
-- Race    slots go on taking: until the last page the gate makes them discard what they meet; what they hold finishes,
--         but nothing brings it back. Tasks put after the instant are not touched.
-- flags: allow-oom

learn(11)
local only, cursor = ARGV[1], ARGV[3] == '' and '0' or ARGV[3]
local instant = tonumber(ARGV[2]) or now
local page = call('HSCAN', TASKS, cursor, 'COUNT', ARGV[4])
local goes, places, bytes = {}, {}, 0

-- A slot has it just now, and it was replaced after the instant: what comes back then is not dropped.
local function is_replaced(id)
  local wish = call('HGET', AGAIN, id)
  wish = wish and cmsgpack.unpack(wish) or {}
  return wish[1] == 'replace' and put_time(wish[3]) > instant
end

for i = 1, #page[2], 2 do
  local id, record = page[2][i], page[2][i + 1]
  local _, collection = named_in(record)
  bytes = bytes + #record
  if put_time(record) <= instant and (only == '' or only == collection) then
    local place, refusal, key = place_of(id, record)
    if not place then return redis.error_reply(refusal) end
    if key or not is_replaced(id) then goes[#goes + 1], places[#places + 1] = id, key or false end
  end
end
may_fill()
call('HSET', GATES, 'drop:' .. only, string.format('%.0f', instant))
for i, id in ipairs(goes) do
  if places[i] then
    call('ZREM', places[i], id)
    forget(id)
    tell_end(id)
  else
    call('HSET', AGAIN, id, cmsgpack.pack({ 'gone' }))
  end
end
count('dropped', #goes)
if page[1] == '0' then call('HDEL', GATES, 'drop:' .. only) end
return { string.format('%.0f', instant), page[1] == '0' and '' or page[1], #page[2] / 2, #goes, bytes }
