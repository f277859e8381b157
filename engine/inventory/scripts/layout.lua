#!lua name=dosebook
-- The one packed layout behind every script. engine/inventory/codec.py holds the same formats,
-- tests/unit/test_codec.py compares the `format` lines below with it.
--
-- Keys of a partition, all under its hash tag, `{p07}:` being the prefix:
--   {p07}:outbox          stream of events, ids epoch-sequence without gaps, one field `e`
--   {p07}:meta            hash: epoch, clock (ms, never goes back), host (its host's clock then, which may),
--                         certified (run_id of the process that may sell), last (id of the last event),
--                         mark (of the persister, see mark.lua)
--   {p07}:wait            string, empty: what is written before a WAIT for replicas
--   {p07}:rebuild         string, only while the partition is being rebuilt: the token of that rebuild
--   {p07}:session:<id>    string: state, width, then the seat mask (bit 1 = free)
--   {p07}:person:<xx>     hash bucket by two bytes of the person key. A guard's field is person, kind (17 bytes),
--                         a course's is person, kind, generation (21 bytes)
--
-- format appointment <BI4I2I2       dose session slot seat
-- format wish        <BI4I2         dose session slot
-- format guard       <c1I4I4c16     state generation location op, then memories
-- format memory      <c16I4I4       op generation location of an earlier course, newest first
-- format course      <c1c16B        state op count, then appointments, then the cancelling op
-- format event       <Bc1I8c16BI4c16B  version type at_ms person kind generation op count, then appointments
-- format session     <c1B           state width, then the mask
--
-- An op is 16 bytes: 8 of the idempotency key, 8 of the request's digest.
-- While a library loads, only the language and redis.register_function exist; bind() fetches the rest.

local byte, char, sub, concat, pack, unpack, call

local function bind()
  byte, char, sub, concat = string.byte, string.char, string.sub, table.concat
  pack, unpack, call = struct.pack, struct.unpack, redis.call
end

local NO_OP = '\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
local MEMORIES_MAX = 4
local EVENT_VERSION = 1

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

local function course_at(partition, person, kind, generation)
  return bucket_of(partition, person), person .. pack('<BI4', kind, generation)
end

local function course_record(state, op, count, appointments)
  return pack('<c1c16B', state, op, count) .. appointments
end

local function course_parts(record)
  local state, op, count = unpack('<c1c16B', record)
  return state, op, sub(record, 19, 18 + 9 * count), sub(record, 19 + 9 * count)
end

-- Seats ---------------------------------------------------------------------------------------------------

local HEADER = 2
local LOWEST, POWER = {}, {}
for bit = 0, 7 do POWER[bit] = 2 ^ bit end
for mask = 1, 255 do
  local rest, bit = mask, 0
  while rest % 2 == 0 do rest, bit = rest / 2, bit + 1 end
  LOWEST[mask] = bit
end

local function session_at(partition, session)
  return partition.prefix .. 'session:' .. session
end

-- Lowest free seat of a slot: seat, 0-based offset of its byte, that byte without it. nil when the slot is full.
local function lowest_free(stock, slot)
  local width = byte(stock, 2)
  local first = HEADER + slot * width
  for i = 0, width - 1 do
    local mask = byte(stock, first + i + 1)
    if mask ~= 0 then
      local bit = LOWEST[mask]
      return i * 8 + bit, first + i, mask - POWER[bit]
    end
  end
  return nil
end

local function has_slot(stock, slot)
  return HEADER + (slot + 1) * byte(stock, 2) <= #stock
end

-- Offset and value of the byte once `seat` is free again. nil when it is free already: something is torn.
local function given_back(stock, slot, seat)
  local width, bit = byte(stock, 2), seat % 8
  local offset = HEADER + slot * width + (seat - bit) / 8
  local mask = byte(stock, offset + 1)
  if mask % (2 * POWER[bit]) >= POWER[bit] then return nil end
  return offset, mask + POWER[bit]
end

-- Events --------------------------------------------------------------------------------------------------

-- An item's first write, always: nothing changes that the outbox does not tell. XADD is also the last
-- command of an item that can be refused; those after it write keys whose types were read before.
local function emit(partition, kind_of_event, person, kind, generation, op, appointments)
  local event = pack('<Bc1I8c16BI4c16B', EVENT_VERSION, kind_of_event, partition.now, person, kind, generation, op,
    #appointments / 9) .. appointments
  partition.last_event = call('XADD', partition.outbox, partition.epoch .. '-*', 'e', event)
end
