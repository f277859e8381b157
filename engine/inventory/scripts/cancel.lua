-- cancel: undoes a course, all its seats at once. With `guard_here` = 1 the guard is in this partition and is
-- freed in the same step; otherwise the outbox consumer frees it.
--
-- record  x <c16BI4c16B    person kind generation op guard_here
-- answers X ..             cancelled (now or before): the appointments that were released
--         -                no such course
--         K                the op's key was used for another request

-- Byte writes that give the seats back; several seats may share a byte.
local function releases(partition, appointments)
  local stocks, writes = {}, {}
  for at = 1, #appointments, 9 do
    local _, session, slot, seat = unpack('<BI4I2I2', appointments, at)
    local key = session_at(partition, session)
    local stock = stocks[key] or call('GET', key)
    if not stock then error('session ' .. session .. ' of a live course is not there') end
    local offset, value = given_back(stock, slot, seat)
    if not offset then error('seat ' .. session .. '/' .. slot .. '/' .. seat .. ' of a live course is free') end
    stocks[key] = sub(stock, 1, offset) .. char(value) .. sub(stock, offset + 2)
    writes[#writes + 1] = { key, offset, char(value) }
  end
  return writes
end

ops.x = function(partition, record)
  local person, kind, generation, op, guard_here = unpack('<c16BI4c16B', record, 2)
  local key, field = course_at(partition, person, kind, generation)
  local course = call('HGET', key, field)
  if not course or byte(course) == 116 then return '-' end
  local state, booked_by, appointments, cancelled_by = course_parts(course)
  if sub(booked_by, 1, 8) == sub(op, 1, 8) then return 'K' end
  if state == 'x' then
    if cancelled_by ~= op and sub(cancelled_by, 1, 8) == sub(op, 1, 8) then return 'K' end
    return 'X' .. appointments
  end
  local writes = releases(partition, appointments)
  local _, guard_field = guard_at(partition, person, kind)
  local guard = guard_here == 1 and call('HGET', key, guard_field)
  emit(partition, 'x', person, kind, generation, op, appointments)
  call('HSET', key, field, course_record('x', booked_by, #appointments / 9, appointments) .. op)
  write_bytes(writes)
  if guard then
    local guard_state, current = unpack('<c1I4', guard)
    if current == generation and guard_state ~= 'f' then call('HSET', key, guard_field, freed(guard)) end
  end
  return 'X' .. appointments
end
