-- unclaim: gives a claim back after its take was refused. Compare-and-set on the generation; leaves no memory,
-- because nothing was booked. Only for a claim whose one take was answered, or whose tombstone stands.
--
-- record  u <c16BI4        person kind generation
-- answers + | -            given back | not claimed at this generation

ops.u = function(partition, record)
  local person, kind, generation = unpack('<c16BI4', record, 2)
  local key, field = guard_at(partition, person, kind)
  local guard = call('HGET', key, field)
  if not guard then return '-' end
  local state, current = unpack('<c1I4', guard)
  if state ~= 'c' or current ~= generation then return '-' end
  call('HSET', key, field, guard_record('f', generation, 0, NO_OP, guard))
  return '+'
end
