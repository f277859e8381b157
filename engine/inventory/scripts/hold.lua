-- confirm, extend: what a person does with a hold before its time is over; a household's holds all at once.
--
-- record  y <c16B          op members, then <c16BI4: person kind generation
-- answers Y                booked, now or before
--         G <B             member: the hold is over, was cancelled, or there never was one
--         K <B             member: the op's key was used for another request
--
-- record  w <c16I4BB       op hold_ms extensions_max members, then <c16BI4: person kind generation
-- answers W <I8            they end at until_ms
--         M <B             member: extended as often as is allowed
--         G K              as confirm

-- Every member's course; or nil and the refusal. `done`: this op has come before, for it changes all or none; one that
-- was booked then is left as it was, and so may not know it.
local function held_courses(partition, record, at, count, op, act)
  local courses, done = {}, false
  for i = 1, count do
    local course = find_course(partition, unpack('<c16BI4', record, at + 21 * (i - 1)))
    if not course or course.state == 't' then return nil, 'G' .. char(i) end
    local known, acted = recall_change(course, op)
    if known == 'conflict' or known == 'same' and acted ~= act then return nil, 'K' .. char(i) end
    done = done or known == 'same'
    courses[i] = course
  end
  return courses, nil, done
end

local function not_running(partition, course)
  return course.state ~= 'h' or is_due(partition, course)
end

ops.y = function(partition, record)
  local op, count, at = unpack('<c16B', record, 2)
  local courses, refusal, done = held_courses(partition, record, at, count, op, 'c')
  if not courses then return refusal end
  if done then return 'Y' end
  for i, course in ipairs(courses) do
    if course.state ~= 'b' and not_running(partition, course) then return 'G' .. char(i) end
  end
  for _, course in ipairs(courses) do
    if course.state == 'h' then
      remember(course, op, 'c')
      emit(partition, 'c', course, op, '')
      course.state = 'b'
      call('HSET', course.key, course.field, course_record(course))
      call('ZREM', holds_of(partition), course.field)
    end
  end
  return 'Y'
end

ops.w = function(partition, record)
  local op, hold_ms, extensions_max, count, at = unpack('<c16I4BB', record, 2)
  local courses, refusal, done = held_courses(partition, record, at, count, op, 'w')
  if not courses then return refusal end
  if done then return 'W' .. pack('<I8', until_of(partition, courses[1])) end
  for i, course in ipairs(courses) do
    if not_running(partition, course) then return 'G' .. char(i) end
    if count_changes(course, 'w') >= extensions_max then return 'M' .. char(i) end
  end
  local until_ms = partition.now + hold_ms
  for _, course in ipairs(courses) do
    remember(course, op, 'w')
    emit(partition, 'w', course, op, '', pack('<I8BI2', until_ms, course.vaccine, course.day))
    call('HSET', course.key, course.field, course_record(course))
    call('ZADD', holds_of(partition), until_ms, course.field)
  end
  return 'W' .. pack('<I8', until_ms)
end
