-- settle: says of single tasks of a lock how they ended; or, for a slot that died, ends all that it left.
--
-- with: gates fates locks
-- KEYS    the slots' vector; [15…] schedules of the queue's handlers, keys of results
-- ARGV    [1] holder  [2] seq of the pack, "" for none  [3] outcomes: msgpack map position -> {kind, …} (see locks.lua)
--         [4] marks, one byte a position, 1 = done  [5] what befalls the rest: keep | back | loss  [6] why
--         [7] seq that a dead slot had asked for, "" while the slot lives  [8] how long finished ids stay known, µs
--         [9] results to keep: msgpack map position -> [place of its key, place in ARGV, ms]
--         [10] time the handlers ran, µs, counted if a task ends by this call  [11…] results
-- Returns 1, or 0 if the lock was gone before
-- Race    the slot's last exchange may come after it was reaped: the holder is dead from here on and is refused; if it
--         came before, the pack that nobody ever saw goes back untouched.
-- flags: allow-oom

learn(15)
local holder, seq, asked = ARGV[1], ARGV[2], ARGV[7]
local lock, unseen = string.format('%s:%s', holder, seq), string.format('%s:%s', holder, asked)

local function is_number(value) return type(value) == 'number' and value == value and math.abs(value) < 9007199254740992 end

-- Whether this says all that end_task asks of it.
local function is_outcome(said)
  if type(said) ~= 'table' or type(said.why) ~= 'string' or said.delay and not is_number(said.delay) then return false end
  local kind, delayed = said.kind, said.delay or is_number(said.base) and is_number(said.cap) and is_number(said.jitter)
  if kind == 'postpone' then return is_number(said.at or said.delay) end
  if kind == 'retry' then return delayed end
  if kind == 'fail' or kind == 'crash' then return delayed and is_number(said.limit) end
  return kind == 'done' or kind == 'back' or kind == 'loss' or kind == 'bury'
end

local function is_kept(result)
  if type(result) ~= 'table' then return false end
  local key, place, ms = unpack(result)
  return KEYS[key] and ARGV[place] and is_number(ms) and ms >= 1 and ms % 1 == 0
end

local function all_are(check, values)
  if type(values) ~= 'table' then return false end
  for _, value in pairs(values) do
    if not check(value) then return false end
  end
  return true
end

if #ARGV < 10 or not are_numbers(ARGV[8], ARGV[10]) then return redis.error_reply(BADARGS) end
local outcomes, results = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[9])
if not (all_are(is_outcome, outcomes) and all_are(is_kept, results)) then return redis.error_reply(BADARGS) end
local rest = ARGV[5]
if rest ~= 'keep' and rest ~= 'back' and rest ~= 'loss' then return redis.error_reply(BADARGS) end
if not (can_settle(lock) and can_settle(unseen)) then return redis.error_reply(UNNAMED) end
may_fill()
local found, ended = settle_lock(lock, outcomes, ARGV[4], rest, ARGV[6], tonumber(ARGV[8]), results)
if found and ended > 0 then count('busy', tonumber(ARGV[10])) end
if asked ~= '' then
  declare_dead(holder)
  call('ZREM', WAITERS, holder)
  settle_lock(unseen, {}, '', 'back')
end
wake()
return found and 1 or 0
