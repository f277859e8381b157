-- resolve: decides the fate of a course in doubt. Where no take has come, a tombstone is written, so that a
-- late one is refused; after this the answer never changes from T to anything else.
--
-- record  r <c16BI4        person kind generation
-- answers B ..             booked: the course record
--         X                cancelled
--         T                a tombstone stands: never booked, never will be

ops.r = function(partition, record)
  local person, kind, generation = unpack('<c16BI4', record, 2)
  local key, field = course_at(partition, person, kind, generation)
  local course = call('HGET', key, field)
  if not course then
    call('HSET', key, field, course_record('t', NO_OP, 0, ''))
    return 'T'
  end
  local state = byte(course)
  if state == 98 then return 'B' .. course end
  return state == 116 and 'T' or 'X'
end
