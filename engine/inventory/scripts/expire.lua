-- expire: ends holds whose time has passed, the oldest first, at most so many. The janitor asks for it every second;
-- a taker who finds nothing free, and whoever meets a hold that is over, do it themselves.
--
-- record  e <I2            how many at most
-- answers E <I2            how many ended

local function expire_due(partition, count)
  local due = call('ZRANGEBYSCORE', holds_of(partition), '-inf', string.format('%.0f', partition.now),
    'LIMIT', 0, count)
  for _, field in ipairs(due) do
    local person, kind, generation = unpack('<c16BI4', field)
    local course = find_course(partition, person, kind, generation)
    if course and course.state == 'h' then
      end_course(partition, course, NO_OP, 'e')
    else
      -- An entry of nothing: left in the way, it would come first for ever.
      call('ZREM', holds_of(partition), field)
    end
  end
  return #due
end

-- Holds that one item may end to make room, in rounds of so many.
local LAZY_ROUNDS, LAZY_EXPIRIES = 64, 16

-- Ask `choose` for its refusal, ending holds that are over as long as a slot is full. 70 is F.
local function with_expiry(partition, choose)
  for _ = 1, LAZY_ROUNDS do
    local refusal = choose()
    if not refusal or byte(refusal) ~= 70 or expire_due(partition, LAZY_EXPIRIES) == 0 then return refusal end
  end
  return choose()
end

ops.e = function(partition, record)
  local count = unpack('<I2', record, 2)
  return 'E' .. pack('<I2', expire_due(partition, count))
end
