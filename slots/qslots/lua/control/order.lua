-- order: people say what one server is to do: drain until they take it back, let slots leave after their task.
--
-- KEYS    orders
-- ARGV    [1] server  [2] 1 drain, 0 take it back, '' leave it as it is  [3…] slot, its pid: each to be recycled
-- Returns 1
-- Race    two people order at once: what one has said is not lost by the other. What was to be recycled is forgotten
--         after a minute: its master has heard of it, or does not report.
-- flags: allow-oom

redis.replicate_commands()
local now = tonumber(redis.call('TIME')[1])
local known = redis.call('HGET', KEYS[1], ARGV[1])
local orders = known and cjson.decode(known) or { draining = false, recycle = {} }
if ARGV[2] ~= '' then orders.draining = ARGV[2] == '1' end
for slot, said in pairs(orders.recycle) do
  if now - said[2] > 60 then orders.recycle[slot] = nil end
end
for i = 3, #ARGV - 1, 2 do orders.recycle[ARGV[i]] = { tonumber(ARGV[i + 1]), now } end
if orders.draining or next(orders.recycle) then
  redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(orders))
else
  redis.call('HDEL', KEYS[1], ARGV[1])
end
return 1
