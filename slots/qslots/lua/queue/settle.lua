-- settle: says of single tasks of a lock how they ended; or, for a slot that died, ends all that it left.
--
-- with: gates fates locks outcomes
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers, keys of results
-- ARGV    [1] holder  [2] seq of the pack, "" for none  [3] outcomes: msgpack map position -> {kind, …} (see locks.lua)
--         [4] marks, one byte a position, 1 = done  [5] what befalls the rest: keep | back | loss  [6] why
--         [7] seq that a dead slot had asked for, "" while the slot lives  [8] how long finished ids stay known, µs
--         [9] results to keep: msgpack map position -> [place of its key, place in ARGV, ms, whether the value is
--         missing in it]  [10] time the handlers ran, µs, counted if a task or the lock ends by this call  [11…] results
-- Returns 1, or 0 if the lock was gone before
-- Race    the slot's last exchange may come after it was reaped: the holder is dead from here on and is refused; if it
--         came before, the pack that nobody ever saw goes back untouched.
-- flags: allow-oom

learn(15)
local holder, seq, asked = ARGV[1], ARGV[2], ARGV[7]
local lock, unseen = string.format('%s:%s', holder, seq), string.format('%s:%s', holder, asked)

local outcomes, results = said_of_ends()
if not outcomes then return redis.error_reply(BADARGS) end
local rest = ARGV[5]
if rest ~= 'keep' and rest ~= 'back' and rest ~= 'loss' then return redis.error_reply(BADARGS) end
if not (can_settle(lock) and can_settle(unseen)) then return redis.error_reply(UNNAMED) end
may_fill()
local found, ended = settle_lock(lock, outcomes, ARGV[4], rest, ARGV[6], tonumber(ARGV[8]), results)
if found and (ended > 0 or rest ~= 'keep') then count_busy(tonumber(ARGV[10])) end
if asked ~= '' then
  declare_dead(holder)
  call('ZREM', WAITERS, holder)
  settle_lock(unseen, {}, '', 'back')
end
wake()
return found and 1 or 0
