-- claim: one live course per person and kind, the first of three steps when person and location live apart.
--
-- record  c <c16Bc16I4I8   person kind op location not_after
-- answers + <I4            claimed: generation
--         = <I4I4          this very op has claimed before: generation, location; go on with take. A claimed
--                          guard becomes `joined`: several takes of this generation may be on their way now
--         L <c1I4I4        another live course: guard state, generation, location; resolve it first
--         K                the op's key was used for another request
--         D                the deadline not_after has passed

-- Next generation if the guard may be claimed, else nil and the answer. Reads only.
local function claimable(guard, op)
  if not guard then return 1 end
  local known, generation, location = recall(guard, op)
  if known == 'same' then return nil, '=' .. pack('<I4I4', generation, location) end
  if known == 'conflict' then return nil, 'K' end
  local state, current, where = unpack('<c1I4I4', guard)
  if state ~= 'f' then return nil, 'L' .. pack('<c1I4I4', state, current, where) end
  return current + 1
end

local function guard_record(state, generation, location, op, before)
  local memories = before and sub(before, 26) or ''
  return pack('<c1I4I4c16', state, generation, location, op) .. memories
end

ops.c = function(partition, record)
  local person, kind, op, location, not_after = unpack('<c16Bc16I4I8', record, 2)
  local key, field = guard_at(partition, person, kind)
  local guard = call('HGET', key, field)
  local generation, answer = claimable(guard, op)
  if not generation then
    -- 99 is `c`: claimed, and by this op (bytes 10 to 25) rather than remembered of an earlier course.
    if byte(answer) == 61 and byte(guard) == 99 and sub(guard, 10, 25) == op then
      call('HSET', key, field, 'j' .. sub(guard, 2))
    end
    return answer
  end
  if partition.now > not_after then return 'D' end
  call('HSET', key, field, guard_record('c', generation, location, op, guard))
  return '+' .. pack('<I4', generation)
end
