-- aside, keep, quit: seats of a course whose home is another partition. A part is set aside before the home decides,
-- and never ends because time passed: the home's record says whether it counts (booking/PROTOCOL.md). One that was
-- given back stays on record, so that no late copy sets it aside again.
--
-- record  a <c16BI4I2c16BI8B  person kind generation revision op home not_after wishes, then wishes <BI4I2
-- answers A <I2*           set aside (now or before, by this op): a seat per wish
--         F N D            as take, without the member
--         K                another change of this course has set this dose aside
--         T                it was given back: this revision of the course cannot have it any more
--
-- record  k <c16BI4BI2     person kind generation dose revision: the home counts it
-- answers + | = | -        kept | was kept before | there is none
--
-- record  q <c16BI4BI2     person kind generation dose revision: the home does not count it, or no more
-- answers + | -            given back | there is none

local function part_at(partition, person, kind, generation, dose, revision)
  return bucket_of(partition, person), person .. pack('<BI4BI2', kind, generation, dose, revision)
end

-- The seats that this op has set aside for all the wishes; or nil, and the refusal if another op is there.
local function aside_before(partition, person, kind, generation, revision, op, record, at, wishes)
  local seats = {}
  for i = 1, wishes do
    local key, field = part_at(partition, person, kind, generation, byte(record, at + 7 * (i - 1)), revision)
    local part = call('HGET', key, field)
    if part then
      local state, _, by, _, _, seat = unpack('<c1Bc16I4I2I2', part)
      if state == 'x' then return nil, 'T' end
      if by ~= op then return nil, 'K' end
      seats[#seats + 1] = pack('<I2', seat)
    end
  end
  return wishes > 0 and #seats == wishes and 'A' .. concat(seats) or nil
end

-- Appointments as a part's events tell of them: `where` names the home.
local function told_of(appointments, home)
  local told = {}
  for at = 1, #appointments, 12 do
    told[#told + 1] = sub(appointments, at, at) .. char(home) .. sub(appointments, at + 2, at + 11)
  end
  return concat(told)
end

ops.a = function(partition, record)
  local person, kind, generation, revision, op, home, not_after, wishes, at =
    unpack('<c16BI4I2c16BI8B', record, 2)
  local before, refusal = aside_before(partition, person, kind, generation, revision, op, record, at, wishes)
  if before or refusal then return before or refusal end
  if partition.now > not_after then return 'D' end
  local draft, taken
  refusal = with_expiry(partition, function()
    local full
    draft = new_draft(partition)
    taken, full = take_seats(draft, record, at, wishes, revision)
    local dose = taken and (taken == '' and 0 or twice(taken))
    return dose and 'N' .. char(dose) or full
  end)
  if refusal then return refusal end
  local course = { person = person, kind = kind, generation = generation, revision = revision }
  emit(partition, 'a', course, op, entries('+', told_of(taken, home)))
  for seat_at = 1, #taken, 12 do
    local dose, _, _, session, slot, seat = unpack('<BBI2I4I2I2', taken, seat_at)
    local key, field = part_at(partition, person, kind, generation, dose, revision)
    call('HSET', key, field, pack('<c1Bc16I4I2I2', 's', home, op, session, slot, seat))
  end
  write_draft(draft)
  return 'A' .. seats_of(taken)
end

ops.k = function(partition, record)
  local key, field = part_at(partition, unpack('<c16BI4BI2', record, 2))
  local part = call('HGET', key, field)
  local state = part and sub(part, 1, 1)
  if not part or state == 'x' then return '-' end
  if state == 'b' then return '=' end
  call('HSET', key, field, 'b' .. sub(part, 2))
  return '+'
end

ops.q = function(partition, record)
  local person, kind, generation, dose, revision = unpack('<c16BI4BI2', record, 2)
  local key, field = part_at(partition, person, kind, generation, dose, revision)
  local part = call('HGET', key, field)
  if not part then return '-' end
  local state, home, op, session, slot, seat = unpack('<c1Bc16I4I2I2', part)
  if state == 'x' then return '-' end
  local draft, appointment = new_draft(partition), pack('<BBI2I4I2I2', dose, HERE, revision, session, slot, seat)
  give_back(draft, appointment)
  emit(partition, 'r', { person = person, kind = kind, generation = generation, revision = revision }, op,
    entries('-', told_of(appointment, home)))
  call('HSET', key, field, 'x' .. sub(part, 2))
  write_draft(draft)
  return '+'
end
