-- clock: stands in a testing server before every script that asks for the time, which it asks for here instead of by TIME.
--
-- KEYS    none of its own: it reads the HASH qs:testing:clock, with shift and stands (µs); such a server is never a cluster
-- Race    none that a test would see: what stands still goes on by 1 µs with each script that may write (TICKS), so that what
--         is put later is later, and a drop discards what came before it and nothing else.

local function moved_time()
  local clock = redis.call('TIME')
  local shift, stands = unpack(redis.call('HMGET', 'qs:testing:clock', 'shift', 'stands'))
  if stands and TICKS then stands = redis.call('HINCRBY', 'qs:testing:clock', 'stands', 1) end
  return stands and { 0, stands } or { clock[1], clock[2] + (shift or 0) }
end
