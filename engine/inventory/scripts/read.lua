-- guard, course: what is recorded, read in the order of the batch.
--
-- record  g <c16B          person kind
-- record  l <c16BI4        person kind generation
-- answers V ..             the record
--         -                none

local function found(value)
  return value and 'V' .. value or '-'
end

ops.g = function(partition, record)
  local key, field = guard_at(partition, unpack('<c16B', record, 2))
  return found(call('HGET', key, field))
end

ops.l = function(partition, record)
  local person, kind, generation = unpack('<c16BI4', record, 2)
  local key, field = course_at(partition, person, kind, generation)
  return found(call('HGET', key, field))
end
