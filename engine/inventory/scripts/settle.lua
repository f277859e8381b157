-- settle: the guard learns that its course was taken. Compare-and-set on the generation, idempotent.
--
-- record  s <c16BI4        person kind generation
-- answers + | = | -        settled | was settled before | not this generation's guard

ops.s = function(partition, record)
  local person, kind, generation = unpack('<c16BI4', record, 2)
  local key, field = guard_at(partition, person, kind)
  local guard = call('HGET', key, field)
  if not guard then return '-' end
  local state, current = unpack('<c1I4', guard)
  if current ~= generation or state == 'f' then return '-' end
  if state == 'b' then return '=' end
  call('HSET', key, field, 'b' .. sub(guard, 2))
  return '+'
end
