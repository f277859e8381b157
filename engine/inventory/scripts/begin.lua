-- begin: how courses begin, those of one person or of a household: all of them or none. What `book` and `take` share.
--
-- A group is a head and its members. The head's instead_* name a hold that makes room: its seats are given back, and
-- it ends, in the same step; kind 0 is none. hold_ms > 0 only holds the seats, for so long.
--
-- format group       <c16I8I4c16BI4B   op not_after hold_ms instead_person instead_kind instead_generation members
-- format member      <c16BI4BI2BB      person kind number given_vaccine given_day wishes parts, then wishes
--                                      <BI4I2, then parts as appointments; number: book's location, take's generation

local function group_of(record)
  local op, not_after, hold_ms, person, kind, generation, count, at = unpack('<c16I8I4c16BI4B', record, 2)
  local group = { op = op, not_after = not_after, hold_ms = hold_ms, record = record,
    instead = kind > 0 and { person = person, kind = kind, generation = generation } or nil }
  local seen = count > 1 and {}
  for i = 1, count do
    local member = {}
    member.person, member.kind, member.number, member.vaccine, member.day, member.wishes, member.parts, at =
      unpack('<c16BI4BI2BB', record, at)
    member.at, at = at, at + 7 * member.wishes + 12 * member.parts
    group[i] = member
    if seen then
      local one = member.person .. char(member.kind)
      if seen[one] then error('a person is there twice') end
      seen[one] = true
    end
  end
  if count == 0 or at ~= #record + 1 then error('members and record do not fit') end
  return group
end

-- The hold in whose place the group comes, its seats given back in the draft. nil where it is gone.
local function make_room(partition, draft, instead)
  local course = find_course(partition, instead.person, instead.kind, instead.generation)
  if not course or course.state ~= 'h' or is_due(partition, course) then return nil end
  draft_end(draft, course)
  return course
end

-- All seats of the group, in a new draft. Reads only. Returns nil, or the refusal.
local function choose(partition, group)
  local draft = new_draft(partition)
  group.draft = draft
  if group.instead then
    group.ends = make_room(partition, draft, group.instead)
    if not group.ends then return 'G' end
  end
  for i, member in ipairs(group) do
    local taken, refusal = take_seats(draft, group.record, member.at, member.wishes, 1)
    if not taken then return sub(refusal, 1, 1) .. char(i) .. sub(refusal, 2) end
    local parts_at = member.at + 7 * member.wishes
    member.taken, member.joined = taken, sub(group.record, parts_at, parts_at + 12 * member.parts - 1)
    local dose = taken == '' and 0 or twice(taken .. member.joined)
    if dose then return 'N' .. char(i) .. char(dose) end
  end
  return nil
end

-- The last two bytes of each appointment.
local function seats_of(appointments)
  local seats = gsub(appointments, '..........(..)', '%1')
  return seats
end

-- What the op got when it began these courses, also if they have changed since.
local function begun_before(partition, courses)
  local answer = { 'B', pack('<I8', until_of(partition, courses[1])) }
  for _, course in ipairs(courses) do
    local _, _, appointments = recall_change(course, course.op)
    local _, here, elsewhere = split(appointments)
    answer[#answer + 1] = pack('<I4', course.generation) .. seats_of(here) .. elsewhere
  end
  return concat(answer)
end

local function tail_of(until_ms, member)
  if until_ms == 0 and member.vaccine == 0 then return '' end
  return pack('<I8BI2', until_ms, member.vaccine, member.day)
end

-- Begin the courses. `guard_of(member)` is the field and the record of the guard, if it is here: both are in the
-- bucket of the course. Returns the answer.
local function begin(partition, group, guard_of)
  local refusal = choose(partition, group)
  if refusal and byte(refusal) == 70 then
    refusal = with_expiry(partition, function() return choose(partition, group) end)
  end
  if refusal then return refusal end
  local until_ms = 0
  if group.hold_ms > 0 then
    -- Read before the first write, so that nothing after it can be refused.
    call('ZCARD', holds_of(partition))
    until_ms = partition.now + group.hold_ms
  end
  local state, answer = until_ms > 0 and 'h' or 'b', { 'B', pack('<I8', until_ms) }
  if group.ends then tell_end(partition, group.ends, group.op, 'x') end
  for _, member in ipairs(group) do
    member.revision = 1
    emit(partition, state, member, group.op, entries('+', member.taken) .. entries('>', member.joined),
      tail_of(until_ms, member))
    answer[#answer + 1] = pack('<I4', member.generation) .. seats_of(member.taken) .. member.joined
  end
  if group.ends then write_end(partition, group.ends) end
  for _, member in ipairs(group) do
    local key, field = course_at(partition, member.person, member.kind, member.generation)
    local course = packed_course(state, 1, group.op, member.vaccine, member.day, member.taken .. member.joined, '')
    local guard_field, guard = guard_of(member)
    if guard_field then
      call('HSET', key, field, course, guard_field, guard)
    else
      call('HSET', key, field, course)
    end
    if until_ms > 0 then call('ZADD', holds_of(partition), until_ms, field) end
  end
  write_draft(group.draft)
  return concat(answer)
end
