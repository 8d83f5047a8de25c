-- publish: a manager's new slot map, if its epoch still reigns.
--
-- KEYS    epoch, map, plan, pulse
-- ARGV    [1] manager id  [2] epoch  [3] seq  [4] plan  [5] servers whose row goes (msgpack array)
--         [6…] per changed row: server, row
-- Returns how many rows the map has now; DEPOSED: another manager reigns, and nothing was written
-- Race    a manager that was frozen wakes and publishes an old plan: its epoch is no longer the stored one. What the
--         server has lost shows in the number of rows.
-- flags: allow-oom

redis.replicate_commands()
local stored = redis.call('HMGET', KEYS[1], 'epoch', 'manager', 'seq')
local lost = not stored[1] -- the server has lost its data: who reigns goes on, and is written down again
if not lost and (stored[1] ~= ARGV[2] or stored[2] ~= ARGV[1] or (tonumber(stored[3]) or 0) >= tonumber(ARGV[3])) then
  local other = 'epoch ' .. stored[1] .. ' of ' .. tostring(stored[2])
  return redis.error_reply('DEPOSED the slot map is in other hands: ' .. other)
end
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
redis.call('HDEL', KEYS[1], '') -- for Redis 6 when memory is full: see may_fill in ../queue/prelude.lua
for _, server in ipairs(cmsgpack.unpack(ARGV[5])) do redis.call('HDEL', KEYS[2], server) end
for i = 6, #ARGV, 2 do redis.call('HSET', KEYS[2], ARGV[i], ARGV[i + 1]) end
redis.call('SET', KEYS[3], ARGV[4])
redis.call('HSET', KEYS[1], 'epoch', ARGV[2], 'manager', ARGV[1], 'seq', ARGV[3], 'published', now)
redis.call('HSET', KEYS[4], 'planned', now) -- masters, who may not read the epoch, are told
return redis.call('HLEN', KEYS[2])
