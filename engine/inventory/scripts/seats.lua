-- seats: a session's stock, and a draft of changes to it. An item chooses and gives back in its draft, where later
-- choices see earlier ones, and writes it only once nothing can be refused any more.

local HEADER = 2
local LOWEST, POWER = {}, {}
for bit = 0, 7 do POWER[bit] = 2 ^ bit end
for mask = 1, 255 do
  local rest, bit = mask, 0
  while rest % 2 == 0 do rest, bit = rest / 2, bit + 1 end
  LOWEST[mask] = bit
end

local function session_at(partition, session)
  return partition.prefix .. 'session:' .. session
end

local function new_draft(partition)
  return { partition = partition, stocks = {}, changed = {} }
end

-- The stock as it was read, and the bytes of it that the draft has changed, by 0-based offset.
local function stock_in(draft, session)
  local stock = draft.stocks[session]
  if not stock then
    stock = call('GET', session_at(draft.partition, session)) or ''
    draft.stocks[session], draft.changed[session] = stock, {}
  end
  return stock, draft.changed[session]
end

-- The lowest free seat of a slot, taken in the draft. nil when the slot is full.
local function lowest_free(stock, changed, slot)
  local width = byte(stock, 2)
  local first = HEADER + slot * width
  for i = 0, width - 1 do
    local mask = changed[first + i] or byte(stock, first + i + 1)
    if mask ~= 0 then
      local bit = LOWEST[mask]
      changed[first + i] = mask - POWER[bit]
      return i * 8 + bit
    end
  end
  return nil
end

-- Take a seat for a wish: its appointment; or nil and the refusal, F and the stock, or N.
local function take_seat(draft, dose, session, slot, revision)
  local stock, changed = stock_in(draft, session)
  if byte(stock) ~= 111 or HEADER + (slot + 1) * byte(stock, 2) > #stock then return nil, 'N' .. char(dose) end
  local seat = lowest_free(stock, changed, slot)
  if not seat then return nil, 'F' .. char(dose) .. stock end
  return pack('<BBI2I4I2I2', dose, HERE, revision, session, slot, seat)
end

-- Take a seat for each of the wishes at record[at..]. Appointments; or nil and the refusal.
local function take_seats(draft, record, at, count, revision)
  local taken = {}
  for i = 1, count do
    local dose, session, slot = unpack('<BI4I2', record, at + 7 * (i - 1))
    local appointment, refusal = take_seat(draft, dose, session, slot, revision)
    if not appointment then return nil, refusal end
    taken[i] = appointment
  end
  return concat(taken)
end

-- Give the seats of appointments here back. One that is free already is torn: the item ends in error.
local function give_back(draft, appointments)
  for at = 1, #appointments, 12 do
    local _, _, _, session, slot, seat = unpack('<BBI2I4I2I2', appointments, at)
    local stock, changed = stock_in(draft, session)
    if stock == '' then error('session ' .. session .. ' of a live course is not there') end
    local width, bit = byte(stock, 2), seat % 8
    local offset = HEADER + slot * width + (seat - bit) / 8
    local mask = changed[offset] or byte(stock, offset + 1)
    if mask % (2 * POWER[bit]) >= POWER[bit] then
      error('seat ' .. session .. '/' .. slot .. '/' .. seat .. ' of a live course is free')
    end
    changed[offset] = mask + POWER[bit]
  end
end

local function write_draft(draft)
  for session, changed in pairs(draft.changed) do
    local key = session_at(draft.partition, session)
    for offset, value in pairs(changed) do call('SETRANGE', key, offset, char(value)) end
  end
end
