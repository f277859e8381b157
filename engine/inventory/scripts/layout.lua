#!lua name=dosebook
-- The one packed layout behind every script. engine/inventory/codec.py holds the same formats,
-- tests/unit/test_codec.py compares the `format` lines below with it.
--
-- Keys of a partition, all under its hash tag, `{p07}:` being the prefix:
--   {p07}:outbox          stream of events, ids epoch-sequence without gaps, one field `e`
--   {p07}:meta            hash: epoch, clock (ms, never goes back), host (its host's clock then, which may),
--                         certified (run_id of the process that may sell), last (id of the last event),
--                         mark (of the persister, see mark.lua), layout (of the records, below)
--   {p07}:wait            string, empty: what is written before a WAIT for replicas
--   {p07}:holds           sorted set: course fields of the holds that run, by the time at which they end
--   {p07}:rebuild         string, only while the partition is being rebuilt: the token of that rebuild
--   {p07}:session:<id>    string: state, width, then the seat mask (bit 1 = free)
--   {p07}:person:<xx>     hash bucket by two bytes of the person key. A guard's field is person, kind (17 bytes),
--                         a course's is person, kind, generation (21 bytes), a part's is person, kind, generation,
--                         dose, revision (24 bytes)
--
-- A course is recorded in one partition, its home. Seats elsewhere are parts there; the home's record says whether
-- they count. Each change of a record raises its revision; an appointment has the revision that brought it.
--
-- format appointment <BBI2I4I2I2    dose where revision session slot seat; where 255 is here, else that partition
-- format wish        <BI4I2         dose session slot
-- format guard       <c1I4I4c16     state generation location op, then memories
-- format memory      <c16I4I4       op generation location of an earlier course, newest first
-- format course      <c1I2c16BI2B   state revision op given_vaccine given_day count, then appointments, then changes
-- format change      <c16c1I2B      op act revision count of an earlier write, newest first, then the appointments that
--                                   it left; revision: the one that it made
-- format part        <c1Bc16I4I2I2  state home op session slot seat; state s set aside, b counted, x given back
-- format event       <Bc1I8c16BI4I2c16B  version type at_ms person kind generation revision op count, then entries,
--                                   then a tail if it says anything
-- format entry       <c1BBI2I4I2I2  verb, then an appointment: + taken here, - given back here, > taken elsewhere and
--                                   counts now, < taken elsewhere and counts no more. A part's own events (a, r) say
--                                   in `where` which partition is its home
-- format tail        <I8BI2         until_ms given_vaccine given_day
-- format session     <c1B           state width, then the mask
--
-- An op is 16 bytes: 8 of the idempotency key, 8 of the request's digest.
-- While a library loads, only the language and redis.register_function exist; bind() fetches the rest.

local byte, char, sub, gsub, concat, pack, unpack, call

local function bind()
  byte, char, sub, gsub, concat = string.byte, string.char, string.sub, string.gsub, table.concat
  pack, unpack, call = struct.pack, struct.unpack, redis.call
end

local NO_OP = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local MEMORIES_MAX = 4
-- More than a campaign allows changes (engine/limits.py, CHANGES_MAX), extensions, a confirmation and an end.
local CHANGES_MAX = 16
local EVENT_VERSION = 2
-- Of the records below. A partition that was written in another one is closed until it is rebuilt.
local LAYOUT = '2'
local HERE = 255

-- The op codes, filled by the scripts that follow; every one is function(partition, record) -> answer.
local ops = {}

-- Guards: at most one live course per person and kind ----------------------------------------------------

local function bucket_of(partition, person)
  return partition.prefix .. 'person:' .. sub(person, 1, 2)
end

local function guard_at(partition, person, kind)
  return bucket_of(partition, person), person .. char(kind)
end

-- What a guard knows of an op: 'same', generation, location of its course; 'conflict' when the key was used
-- for another request; nil when it never saw it.
local function recall(guard, op)
  local state, generation, location, current = unpack('<c1I4I4c16', guard)
  local key = sub(op, 1, 8)
  if state ~= 'f' and sub(current, 1, 8) == key then
    return current == op and 'same' or 'conflict', generation, location
  end
  for at = 26, #guard, 24 do
    local past, past_generation, past_location = unpack('<c16I4I4', guard, at)
    if sub(past, 1, 8) == key then
      return past == op and 'same' or 'conflict', past_generation, past_location
    end
  end
  return nil
end

-- Free a guard and keep the op of the course it held, so that a late duplicate still gets the old answer.
local function freed(guard)
  local _, generation, location, op = unpack('<c1I4I4c16', guard)
  local memories = sub(guard, 26, 25 + 24 * (MEMORIES_MAX - 1))
  return pack('<c1I4I4c16', 'f', generation, 0, NO_OP) .. pack('<c16I4I4', op, generation, location) .. memories
end

-- Courses -------------------------------------------------------------------------------------------------
-- States: b booked, h held, x ended, t tombstone ("never booked and never will be").

local function course_at(partition, person, kind, generation)
  return bucket_of(partition, person), person .. pack('<BI4', kind, generation)
end

local function course_of(record)
  local state, revision, op, vaccine, day, count = unpack('<c1I2c16BI2B', record)
  local ends = 23 + 12 * count
  return { state = state, revision = revision, op = op, vaccine = vaccine, day = day,
    appointments = sub(record, 24, ends), changes = sub(record, ends + 1) }
end

local function packed_course(state, revision, op, vaccine, day, appointments, changes)
  return pack('<c1I2c16BI2B', state, revision, op, vaccine, day, #appointments / 12) .. appointments .. changes
end

local function course_record(course)
  return packed_course(course.state, course.revision, course.op, course.vaccine, course.day, course.appointments,
    course.changes)
end

local function is_live(course)
  return course.state == 'b' or course.state == 'h'
end

-- Length of the change that begins at this place.
local function change_length(changes, at)
  return 20 + 12 * byte(changes, at + 19)
end

-- How many changes of a kind a course remembers.
local function count_changes(course, act)
  local changes, count, at = course.changes, 0, 1
  while at <= #changes do
    if sub(changes, at + 16, at + 16) == act then count = count + 1 end
    at = at + change_length(changes, at)
  end
  return count
end

local function change_record(op, act, revision, appointments)
  return pack('<c16c1I2B', op, act, revision, #appointments / 12) .. appointments
end

-- Raise the revision and remember that the op did this. `left`: the appointments after a move.
local function remember(course, op, act, left)
  course.revision = course.revision + 1
  local changes, at, count = change_record(op, act, course.revision, left or '') .. course.changes, 1, 0
  while at <= #changes and count < CHANGES_MAX do at, count = at + change_length(changes, at), count + 1 end
  course.changes = sub(changes, 1, at - 1)
end

-- What a course knows of an op: 'same', its act, the appointments that it left and the revision that it made;
-- 'conflict' when the key was used for another request; nil when it never saw it.
local function recall_change(course, op)
  local key, changes, at = sub(op, 1, 8), course.changes, 1
  while at <= #changes do
    local past, act, revision, count = unpack('<c16c1I2B', changes, at)
    if sub(past, 1, 8) == key then
      if past ~= op then return 'conflict' end
      return 'same', act, sub(changes, at + 20, at + 19 + 12 * count), revision
    end
    at = at + change_length(changes, at)
  end
  if sub(course.op, 1, 8) ~= key then return nil end
  if course.op ~= op then return 'conflict' end
  return 'same', 'b', course.appointments, 1
end

-- The dose that stands twice among the appointments, if there is one.
local function twice(appointments)
  for at = 13, #appointments, 12 do
    local dose = byte(appointments, at)
    for before = 1, at - 12, 12 do
      if byte(appointments, before) == dose then return dose end
    end
  end
  return nil
end

-- Appointments split into those kept, those that end here, and those that end elsewhere. `doses`: the set of doses
-- that end; nil for all.
local function split(appointments, doses)
  local kept, here, elsewhere = {}, {}, {}
  for at = 1, #appointments, 12 do
    local dose, where = byte(appointments, at, at + 1)
    local into = (doses and not doses[dose]) and kept or where == HERE and here or elsewhere
    into[#into + 1] = sub(appointments, at, at + 11)
  end
  return concat(kept), concat(here), concat(elsewhere)
end

-- Events --------------------------------------------------------------------------------------------------

-- The verb before each of the appointments, which are 12 bytes.
local function entries(verb, appointments)
  if appointments == '' then return '' end
  local told = gsub(appointments, '............', verb .. '%0')
  return told
end

-- An item's first write, always: nothing changes that the outbox does not tell. XADD is also the last
-- command of an item that can be refused; those after it write keys whose types were read before.
local function emit(partition, kind_of_event, course, op, told, tail)
  local event = pack('<Bc1I8c16BI4I2c16B', EVENT_VERSION, kind_of_event, partition.now, course.person, course.kind,
    course.generation, course.revision, op, #told / 13) .. told .. (tail or '')
  partition.last_event = call('XADD', partition.outbox, partition.epoch .. '-*', 'e', event)
end
