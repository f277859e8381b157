-- book: claim, take and settle in one operation, when person and location share the partition.
--
-- record  b <c16Bc16I4I8   person kind op location not_after, then wishes <BI4I2: dose session slot
-- answers B <I4I2*         booked: generation, a seat per wish (also to the same op once more)
--         L <c1I4I4        another live course: 'v' verified booked here, else the guard's state; generation, location
--         F N D K          as take

-- The op has booked before: its old answer, also after a cancellation.
local function booked_before(partition, person, kind, generation, location)
  local key, field = course_at(partition, person, kind, generation)
  local course = call('HGET', key, field)
  if not course or byte(course) == 116 then return 'L' .. pack('<c1I4I4', 'c', generation, location) end
  local _, _, appointments = course_parts(course)
  return 'B' .. pack('<I4', generation) .. seats_of(appointments)
end

-- Another op's course is live: say so at once if it is booked in this partition.
local function live(partition, person, kind, answer)
  local _, generation, location = unpack('<c1I4I4', answer, 2)
  local key, field = course_at(partition, person, kind, generation)
  local course = call('HGET', key, field)
  if course and byte(course) == 98 then return 'L' .. pack('<c1I4I4', 'v', generation, location) end
  return answer
end

local function not_claimable(partition, person, kind, answer)
  local code = sub(answer, 1, 1)
  if code == '=' then return booked_before(partition, person, kind, unpack('<I4I4', answer, 2)) end
  if code == 'L' then return live(partition, person, kind, answer) end
  return answer
end

ops.b = function(partition, record)
  local person, kind, op, location, not_after, at = unpack('<c16Bc16I4I8', record, 2)
  local bucket, guard_field = guard_at(partition, person, kind)
  local guard = call('HGET', bucket, guard_field)
  local generation, answer = claimable(guard, op)
  if not generation then return not_claimable(partition, person, kind, answer) end
  if partition.now > not_after then return 'D' end
  local _, field = course_at(partition, person, kind, generation)
  if call('HEXISTS', bucket, field) == 1 then return 'T' end
  local appointments, writes = choose(partition, record, at)
  if not appointments then return writes end
  emit(partition, 'b', person, kind, generation, op, appointments)
  call('HSET', bucket, guard_field, guard_record('b', generation, location, op, guard),
    field, course_record('b', op, #writes, appointments))
  write_bytes(writes)
  return 'B' .. pack('<I4', generation) .. seats_of(appointments)
end
