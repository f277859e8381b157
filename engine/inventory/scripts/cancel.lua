-- cancel: ends a course, booked or held: all its seats are given back at once.
--
-- record  x <c16BI4c16     person kind generation op
-- answers X ..             ended (now or before): the appointments that it had
--         -                no such course
--         K                the op's key was used for another request

ops.x = function(partition, record)
  local person, kind, generation, op = unpack('<c16BI4c16', record, 2)
  local course = find_course(partition, person, kind, generation)
  if not course or course.state == 't' then return '-' end
  local known, act = recall_change(course, op)
  if known == 'conflict' or known == 'same' and act ~= 'x' then return 'K' end
  if is_live(course) then end_course(partition, course, op, 'x') end
  return 'X' .. course.appointments
end
