-- end: how a live course ends, whether it is cancelled, expires, or gives its seats to another. Its guard is freed
-- in the same step if it is in this partition, else by the outbox consumer.

-- A course with the keys of its record: person, kind, generation, key, field. nil where there is none.
local function find_course(partition, person, kind, generation)
  local key, field = course_at(partition, person, kind, generation)
  local record = call('HGET', key, field)
  if not record then return nil end
  local course = course_of(record)
  course.person, course.kind, course.generation, course.key, course.field = person, kind, generation, key, field
  return course
end

local function holds_of(partition)
  return partition.prefix .. 'holds'
end

-- Time at which a hold ends, in ms; 0 for a course that is not held.
local function until_of(partition, course)
  return course.state == 'h' and tonumber(call('ZSCORE', holds_of(partition), course.field)) or 0
end

local function is_due(partition, course)
  return course.state == 'h' and until_of(partition, course) <= partition.now
end

-- Give the course's seats back in the draft; `tell_end` and `write_end` do the rest, after all that can be refused.
local function draft_end(draft, course)
  local _, here, elsewhere = split(course.appointments)
  give_back(draft, here)
  course.held = course.state == 'h'
  -- Read, though nothing is done with it: a key of another type must be met before the first write.
  if course.held then call('ZCARD', holds_of(draft.partition)) end
  course.told = entries('-', here) .. entries('<', elsewhere)
end

local function tell_end(partition, course, op, act)
  if op == NO_OP then course.revision = course.revision + 1 else remember(course, op, act) end
  emit(partition, act, course, op, course.told)
end

local function write_end(partition, course)
  course.state = 'x'
  call('HSET', course.key, course.field, course_record(course))
  if course.held then call('ZREM', holds_of(partition), course.field) end
  local key, field = guard_at(partition, course.person, course.kind)
  local guard = call('HGET', key, field)
  if not guard then return end
  local state, generation = unpack('<c1I4', guard)
  if generation == course.generation and state ~= 'f' then call('HSET', key, field, freed(guard)) end
end

local function end_course(partition, course, op, act)
  local draft = new_draft(partition)
  draft_end(draft, course)
  tell_end(partition, course, op, act)
  write_end(partition, course)
  write_draft(draft)
end
