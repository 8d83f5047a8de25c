-- drop: discards what was put before an instant, a page of the queue at a time.
--
-- with: gates fates places
-- KEYS    the queue's vector; [11…] schedules of the queue's handlers, parking places
-- ARGV    [1] collection, "" for the whole queue  [2] instant µs, "" to begin: now  [3] cursor, "" to begin
--         [4] about how many tasks to look at
-- Returns {instant, cursor of the next page or "" at the end, tasks looked at, discarded, bytes looked at}
-- Race    slots go on taking: until the last page the gate makes them discard what they meet; what they hold finishes,
--         but nothing brings it back. Tasks put after the instant are not touched.
-- flags: allow-oom

learn(11)
local only, cursor = ARGV[1], ARGV[3] == '' and '0' or ARGV[3]
local instant, here = tonumber(ARGV[2]) or now, 0
local page = call('HSCAN', TASKS, cursor, 'COUNT', ARGV[4])
local goes, places, bytes = {}, {}, 0

-- Whether a locked task is to go already, or is to become one that was put after the instant.
local function is_settled(id)
  local packed = call('HGET', AGAIN, id)
  local wish, _, record = unpack(packed and cmsgpack.unpack(packed) or {})
  return wish == 'gone' or record and put_time(record) > instant
end

for i = 1, #page[2], 2 do
  local id, record = page[2][i], page[2][i + 1]
  local _, collection = named_in(record)
  bytes = bytes + #record
  if put_time(record) <= instant and (only == '' or only == collection) then
    local place, refusal, key = place_of(id, record)
    if not place then return redis.error_reply(refusal) end
    if key or not is_settled(id) then goes[#goes + 1], places[#places + 1] = id, key or false end
  end
end
may_fill()
call('HSET', GATES, 'drop:' .. only, string.format('%.0f', instant))
for i, id in ipairs(goes) do
  if places[i] then
    call('ZREM', places[i], id)
    forget(id)
    tell_end(id)
    here = here + 1
  else
    call('HSET', AGAIN, id, cmsgpack.pack({ 'gone', 'dropped' }))
  end
end
count('dropped', here)
if page[1] == '0' then call('HDEL', GATES, 'drop:' .. only) end
return { string.format('%.0f', instant), page[1] == '0' and '' or page[1], #page[2] / 2, #goes, bytes }
