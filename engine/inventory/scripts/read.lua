-- guard, course, part: what is recorded, read in the order of the batch.
--
-- record  g <c16B          person kind
-- record  l <c16BI4        person kind generation
-- answers V ..             the record; of a course: <I8 until_ms of a hold, else 0, then the record
--         -                none

ops.g = function(partition, record)
  local key, field = guard_at(partition, unpack('<c16B', record, 2))
  local guard = call('HGET', key, field)
  return guard and 'V' .. guard or '-'
end

ops.l = function(partition, record)
  local course = find_course(partition, unpack('<c16BI4', record, 2))
  return course and 'V' .. pack('<I8', until_of(partition, course)) .. course_record(course) or '-'
end
