-- free: the guard learns that its course was cancelled. Compare-and-set on the generation, idempotent;
-- keeps the op in the guard's memory.
--
-- record  f <c16BI4        person kind generation
-- answers + | -            freed | not live at this generation

ops.f = function(partition, record)
  local person, kind, generation = unpack('<c16BI4', record, 2)
  local key, field = guard_at(partition, person, kind)
  local guard = call('HGET', key, field)
  if not guard then return '-' end
  local state, current = unpack('<c1I4', guard)
  if current ~= generation or state == 'f' then return '-' end
  call('HSET', key, field, freed(guard))
  return '+'
end
