-- take: all seats of a course or none, the commit point of a booking at one location.
--
-- record  t <c16BI4c16I8   person kind generation op not_after, then wishes <BI4I2: dose session slot
-- answers B <I2*           booked: a seat per wish; the same op once more gets the same, even after a cancellation
--         F <B             full: dose, then that session's stock; nothing was written
--         N <B             dose: no such open session or slot, or two wishes for one slot
--         T                a tombstone stands: this generation was given up
--         K                this generation belongs to another op
--         D                the deadline not_after has passed

local function seats_of(appointments)
  local seats = {}
  for at = 8, #appointments, 9 do seats[#seats + 1] = sub(appointments, at, at + 1) end
  return concat(seats)
end

-- Choose a seat for every wish in record[at..]. Reads only. Returns the appointments packed and the list of
-- byte writes {key, offset, value}; or nil and the refusal.
local function choose(partition, record, at)
  local appointments, writes, slots = {}, {}, {}
  while at <= #record do
    local dose, session, slot = unpack('<BI4I2', record, at)
    local key = session_at(partition, session)
    local stock, place = call('GET', key), session .. '/' .. slot
    if not stock or byte(stock) ~= 111 or not has_slot(stock, slot) or slots[place] then
      return nil, 'N' .. char(dose)
    end
    local seat, offset, value = lowest_free(stock, slot)
    if not seat then return nil, 'F' .. char(dose) .. stock end
    slots[place] = true
    appointments[#appointments + 1] = sub(record, at, at + 6) .. pack('<I2', seat)
    writes[#writes + 1] = { key, offset, char(value) }
    at = at + 7
  end
  if #writes == 0 then return nil, 'N\0' end
  return concat(appointments), writes
end

local function write_bytes(writes)
  for _, write in ipairs(writes) do call('SETRANGE', write[1], write[2], write[3]) end
end

-- The answer of a course that exists to the op that asks for it.
local function taken_before(record, op)
  local state, taken_by, appointments = course_parts(record)
  if state == 't' then return 'T' end
  if taken_by ~= op then return 'K' end
  return 'B' .. seats_of(appointments)
end

ops.t = function(partition, record)
  local person, kind, generation, op, not_after, at = unpack('<c16BI4c16I8', record, 2)
  local key, field = course_at(partition, person, kind, generation)
  local before = call('HGET', key, field)
  if before then return taken_before(before, op) end
  if partition.now > not_after then return 'D' end
  local appointments, writes = choose(partition, record, at)
  if not appointments then return writes end
  emit(partition, 'b', person, kind, generation, op, appointments)
  call('HSET', key, field, course_record('b', op, #writes, appointments))
  write_bytes(writes)
  return 'B' .. seats_of(appointments)
end
