-- extend: the locks of slots that live, given a full ttl again.
--
-- with: gates fates locks
-- KEYS    the slots' vector
-- ARGV    [1] ttl, µs  [2…] locks
-- Returns the locks that are gone
-- Race    a lock settled a moment ago is "gone" too: the caller must look whether its slot has moved on meanwhile.
-- flags: allow-oom

if not are_numbers(ARGV[1] or '') then return redis.error_reply(BADARGS) end
local gone = {}
may_fill()
serving_since()
for i = 2, #ARGV do
  if call('ZSCORE', LOCKS, ARGV[i]) then
    call('ZADD', LOCKS, 'XX', now + tonumber(ARGV[1]), ARGV[i])
  else
    gone[#gone + 1] = ARGV[i]
  end
end
return gone
