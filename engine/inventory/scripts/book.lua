-- book: claim, take and settle in one operation, when everybody and the location share the partition.
--
-- record  b <c16I8I4c16BI4B   a group (begin.lua); a member's number is the location, and none has parts
-- answers B ..             begun, as take (also to the same op once more)
--         L <Bc1I4I4       another live course: member, 'v' verified live here, else the guard's state; generation,
--                          location
--         F N T G D K      as take

-- The op has begun its courses before: its old answer, also after a cancellation.
local function booked_before(partition, group)
  local courses = {}
  for i, member in ipairs(group) do
    local key, field = guard_at(partition, member.person, member.kind)
    local guard = call('HGET', key, field)
    local known, generation, location = nil, 0, 0
    if guard then known, generation, location = recall(guard, group.op) end
    if known ~= 'same' then return 'T' .. char(i) end
    local course = find_course(partition, member.person, member.kind, generation)
    if not course or course.state == 't' then return 'L' .. pack('<Bc1I4I4', i, 'c', generation, location) end
    courses[i] = course
  end
  return begun_before(partition, courses)
end

-- Another op's course is live: say so at once if it is live in this partition, and not a hold that is over.
local function live(partition, member, i, answer)
  local _, generation, location = unpack('<c1I4I4', answer, 2)
  local course = find_course(partition, member.person, member.kind, generation)
  if course and is_live(course) and not is_due(partition, course) then
    return 'L' .. pack('<Bc1I4I4', i, 'v', generation, location)
  end
  return 'L' .. char(i) .. sub(answer, 2)
end

-- Generations for everybody; or the answer, where somebody's guard may not be claimed.
local function not_claimable(partition, group)
  for i, member in ipairs(group) do
    member.bucket, member.guard_field = guard_at(partition, member.person, member.kind)
    member.guard = call('HGET', member.bucket, member.guard_field)
    local generation, answer = claimable(member.guard, group.op)
    if not generation then
      local code = byte(answer)
      if code == 61 then return booked_before(partition, group) end
      if code == 76 then return live(partition, member, i, answer) end
      return answer .. char(i)
    end
    member.generation = generation
    local _, field = course_at(partition, member.person, member.kind, generation)
    if call('HEXISTS', member.bucket, field) == 1 then return 'T' .. char(i) end
  end
  return nil
end

ops.b = function(partition, record)
  local group = group_of(record)
  local answer = not_claimable(partition, group)
  if answer then return answer end
  if partition.now > group.not_after then return 'D' end
  return begin(partition, group, function(member)
    return member.guard_field, guard_record('b', member.generation, member.number, group.op, member.guard)
  end)
end
