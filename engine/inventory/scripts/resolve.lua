-- resolve: decides the fate of a course in doubt, or of a change to it. Where no take has come, a tombstone is
-- written, so that a late one is refused; where the course is still at the revision that a change started from, it
-- gets the next one, so that the change is refused if it comes late. A hold that is over ends.
--
-- record  r <c16BI4I2      person kind generation revision that the change started from; 0 where there is none
-- answers B ..             live: the course's record
--         X                ended
--         T                a tombstone stands: never booked, never will be

ops.r = function(partition, record)
  local person, kind, generation, revision = unpack('<c16BI4I2', record, 2)
  local course = find_course(partition, person, kind, generation)
  if not course then
    local key, field = course_at(partition, person, kind, generation)
    call('HSET', key, field, course_record({ state = 't', revision = 0, op = NO_OP, vaccine = 0, day = 0,
      appointments = '', changes = '' }))
    return 'T'
  end
  if course.state == 't' then return 'T' end
  if is_live(course) and is_due(partition, course) then end_course(partition, course, NO_OP, 'e') end
  if course.state == 'x' then return 'X' end
  if course.revision == revision then
    course.revision = revision + 1
    call('HSET', course.key, course.field, course_record(course))
  end
  return 'B' .. course_record(course)
end
