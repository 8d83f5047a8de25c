-- For scripts that are told how tasks of a pack ended: whether what they are told can be done.
--
-- ARGV    [3] outcomes: msgpack map position -> {kind, …} (see locks.lua)  [8] how long finished ids stay known, µs
--         [9] results to keep: msgpack map position -> [place of its key, place in ARGV, ms]  [10] time the handlers ran, µs

local function is_number(value) return type(value) == 'number' and value == value and math.abs(value) < 9007199254740992 end

-- Whether this says all that end_task asks of it.
local function is_outcome(said)
  if type(said) ~= 'table' or type(said.why) ~= 'string' or said.delay and not is_number(said.delay) then return false end
  local kind, delayed = said.kind, said.delay or is_number(said.base) and is_number(said.cap) and is_number(said.jitter)
  if kind == 'postpone' then return is_number(said.at) or delayed end
  if kind == 'retry' then return delayed end
  if kind == 'fail' or kind == 'crash' then return delayed and is_number(said.limit) end
  return kind == 'done' or kind == 'back' or kind == 'loss' or kind == 'bury'
end

local function is_kept(result)
  if type(result) ~= 'table' then return false end
  local key, place, ms, missing = unpack(result)
  return KEYS[key] and ARGV[place] and is_number(ms) and ms >= 1 and ms % 1 == 0 and type(missing) == 'boolean'
end

local function all_are(check, values)
  if type(values) ~= 'table' then return false end
  for _, value in pairs(values) do
    if not check(value) then return false end
  end
  return true
end

-- Outcomes and results; nil if an argument is missing or not of its kind.
local function said_of_ends()
  if #ARGV < 10 or not are_numbers(ARGV[8], ARGV[10]) then return nil end
  local outcomes, results = cmsgpack.unpack(ARGV[3]), cmsgpack.unpack(ARGV[9])
  if all_are(is_outcome, outcomes) and all_are(is_kept, results) then return outcomes, results end
end
