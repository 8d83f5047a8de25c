-- release: a slot that leaves hands back what it has not begun; what is marked is done.
--
-- with: gates fates locks
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers
-- ARGV    [1] holder  [2] seq of its pack, "" for none  [3] marks, one byte a position, 1 = done
--         [4] time the handlers ran since the last request, µs  [5] 1 if it leaves for ever, else 0
--         [6] how long ids of finished tasks stay known, µs
-- Returns 1, or 0 if the lock was gone before
-- Race    repeated after a lost reply it finds the lock gone and changes nothing.
-- flags: allow-oom

learn(15)
local holder, seq = ARGV[1], ARGV[2]
local lock = string.format('%s:%s', holder, seq)
if #ARGV ~= 6 or not are_numbers(unpack(ARGV, 4)) then return redis.error_reply(BADARGS) end
if not can_settle(lock) then return redis.error_reply(UNNAMED) end
may_fill()
local found = settle_lock(lock, {}, ARGV[3], 'back', '', tonumber(ARGV[6]))
if found then count_busy(tonumber(ARGV[4])) end
call('ZREM', WAITERS, holder)
if ARGV[5] == '1' then declare_dead(holder) end
wake()
return found and 1 or 0
