-- move: changes which seats a booked course has. The new ones are taken before the old are given back, all in one
-- step. A dose that ends without a new seat is cancelled alone; one that had none is added.
--
-- record  v <c16BI4c16I2I8I2BB   person kind generation op revision not_after doses wishes parts, then wishes
--                          <BI4I2, then parts as appointments. doses: a bit for each dose that ends, dose 1 the lowest;
--                          revision: the one that was read
-- record  d <c16BI4c16I2I8I2BB   the same without wishes and parts: what only gives seats back passes at maxmemory
-- answers V <I2            moved: the revision that this made, then the appointments; also to the same op once more
--         R <I2            the course has another revision: read it again
--         F <B             full: dose, then that session's stock; nothing was written
--         N <B             dose: no such open session or slot, or a dose would have two seats, or there would be none
--         -                no such live course
--         K                the op's key was used for another request
--         D                the deadline not_after has passed

local function doses_in(bits)
  local doses = {}
  for dose = 1, 16 do
    if bits % 2 == 1 then doses[dose] = true end
    bits = (bits - bits % 2) / 2
  end
  return doses
end

local function move(partition, record)
  local person, kind, generation, op, revision, not_after, ends, wishes, parts, at =
    unpack('<c16BI4c16I2I8I2BB', record, 2)
  local course = find_course(partition, person, kind, generation)
  if not course or course.state == 't' then return '-' end
  local known, act, left, made = recall_change(course, op)
  if known == 'conflict' or known == 'same' and act ~= 'v' then return 'K' end
  if known then return 'V' .. pack('<I2', made) .. left end
  if course.state ~= 'b' then return '-' end
  if course.revision ~= revision then return 'R' .. pack('<I2', course.revision) end
  if partition.now > not_after then return 'D' end
  local kept, here, elsewhere = split(course.appointments, doses_in(ends))
  local draft, taken
  local full = with_expiry(partition, function()
    local refusal
    draft = new_draft(partition)
    taken, refusal = take_seats(draft, record, at, wishes, revision + 1)
    return refusal
  end)
  if full then return full end
  local joined = sub(record, at + 7 * wishes, at + 7 * wishes + 12 * parts - 1)
  local appointments = kept .. taken .. joined
  local dose = appointments == '' and 0 or twice(appointments)
  if dose then return 'N' .. char(dose) end
  give_back(draft, here)
  if count_changes(course, 'b') == 0 then
    -- What was booked: the answer that its op keeps getting.
    course.changes = course.changes .. change_record(course.op, 'b', 1, course.appointments)
  end
  course.appointments = appointments
  remember(course, op, 'v', appointments)
  emit(partition, 'v', course, op, entries('+', taken) .. entries('>', joined) .. entries('-', here)
    .. entries('<', elsewhere))
  call('HSET', course.key, course.field, course_record(course))
  write_draft(draft)
  return 'V' .. pack('<I2', course.revision) .. appointments
end

ops.v = function(partition, record)
  return move(partition, record)
end

ops.d = function(partition, record)
  local _, _, _, _, _, _, _, wishes, parts = unpack('<c16BI4c16I2I8I2BB', record, 2)
  if wishes + parts > 0 then error('this takes seats') end
  return move(partition, record)
end
