-- unclaim: gives a claim back. Compare-and-set on the generation; leaves no memory, because nothing was booked.
-- After its one take was refused (`buried` = 0) only while nobody has joined the claim: another take of the same
-- generation could still be granted. Once its tombstone stands (`buried` = 1) in any case.
--
-- record  u <c16BI4B       person kind generation buried
-- answers + | -            given back | not claimed at this generation, or joined and not buried

ops.u = function(partition, record)
  local person, kind, generation, buried = unpack('<c16BI4B', record, 2)
  local key, field = guard_at(partition, person, kind)
  local guard = call('HGET', key, field)
  if not guard then return '-' end
  local state, current = unpack('<c1I4', guard)
  if current ~= generation or not (state == 'c' or state == 'j' and buried == 1) then return '-' end
  call('HSET', key, field, guard_record('f', generation, 0, NO_OP, guard))
  return '+'
end
