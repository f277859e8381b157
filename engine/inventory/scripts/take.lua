-- take: all seats of a course, or of a household's courses, or none: the commit point of what begins at one location.
-- Seats elsewhere were set aside before (part.lua), and count from here on.
--
-- record  t <c16I8I4c16BI4B   a group (begin.lua); a member's number is its generation
-- answers B <I8            begun: until_ms of a hold, else 0; then for each member <I4 generation, a seat <I2 per wish,
--                          and its parts as appointments. The same op once more gets the same, even when it is over
--         F <BB            full: member, dose, then that session's stock; nothing was written
--         N <BB            member, dose: no such open session or slot
--         T <B             member: a tombstone stands, this generation was given up
--         K <B             member: this generation belongs to another op
--         G                the hold in whose place this comes is gone
--         D                the deadline not_after has passed

-- The courses of the group's generations, if there are any; else nil and perhaps the refusal.
local function taken_before(partition, group)
  local courses = {}
  for i, member in ipairs(group) do
    local course = find_course(partition, member.person, member.kind, member.generation)
    if course and course.state == 't' then return nil, 'T' .. char(i) end
    if course and course.op ~= group.op then return nil, 'K' .. char(i) end
    courses[#courses + 1] = course
  end
  if #courses == 0 then return nil end
  if #courses < #group then return nil, 'T\1' end
  return courses
end

-- The guard as settled, if it is here.
local function settled_here(partition, member)
  local key, field = guard_at(partition, member.person, member.kind)
  local guard = call('HGET', key, field)
  if not guard then return nil end
  local state, generation = unpack('<c1I4', guard)
  if generation == member.generation and state ~= 'f' then return field, 'b' .. sub(guard, 2) end
  return nil
end

ops.t = function(partition, record)
  local group = group_of(record)
  for _, member in ipairs(group) do member.generation = member.number end
  local courses, refusal = taken_before(partition, group)
  if courses then return begun_before(partition, courses) end
  if refusal then return refusal end
  if partition.now > group.not_after then return 'D' end
  return begin(partition, group, function(member) return settled_here(partition, member) end)
end
