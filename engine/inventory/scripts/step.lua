-- dosebook_step: one mixed list of operations for one partition.
--
-- KEYS    outbox           {p07}:outbox
-- ARGV    epoch            the epoch that the caller was certified for
--         record ...       any mix of the operations above, in order
-- returns {now_ms, last_event_id or '', answer ...}: the id of the partition's last event, also if an earlier call
--         emitted it; an item in error answers `!` and the reason, alone
-- error   EPOCH            the partition is closed, empty, rebuilt, or written by another version: nothing was done
--         UNCERTIFIED      nobody has certified this server process since it started: nothing was done
--         OOM              memory is full: nothing was done
--
-- dosebook_drain: the same for the operations that give something back, only tell what is, or let Postgres go on
-- (free, settle, unclaim, resolve, cancel, drop, expire, confirm, keep, quit, the reads, mark), which pass when memory
-- is full; any other is an item in error.
--
-- dosebook_found: creates an empty partition, certified for this process: it has nothing that could be older.
--
-- KEYS    outbox
-- ARGV    epoch
-- returns 1 founded, 0 it is there already (of whatever epoch)
--
-- dosebook_certify: lets this process sell. Its caller has compared the partition's data with Postgres.
--
-- KEYS    outbox
-- ARGV    epoch            as Postgres has it
--         run_id           the process in which the data were compared
-- returns 1
-- error   EPOCH | UNCERTIFIED   another epoch, or Redis was restarted since: compare again
--
-- dosebook_reopen: ends a rebuild. Its one write of `meta` is what makes the rebuilt partition sell.
--
-- KEYS    outbox
-- ARGV    epoch            the new one
--         run_id           the process into which everything was written
--         token            as written to {p07}:rebuild before the first key
--         clock            latest time in Postgres, ms: the partition's clock does not go back behind it
-- returns 1
-- error   UNCERTIFIED      restarted, emptied or rebuilt by another since: rebuild again
--
-- dosebook_touch: writes a key that says nothing, so that a WAIT behind it waits for all that was written before.
-- Passes when memory is full: a refused write would leave WAIT nothing to wait for.
--
-- KEYS    wait             {p07}:wait
-- returns 1

-- A partition's clock, and its host's, in ms; `clock` and `host` are both as they were stored together. The
-- partition's never goes back. Where the host's did, it goes on from where it was, and stays ahead by as much:
-- standing still, it would let no deadline pass until the host has caught up.
local function clocks_of(clock, host)
  local time = call('TIME')
  local now = time[1] * 1000 + (time[2] - time[2] % 1000) / 1000
  local last, stored = tonumber(clock) or 0, tonumber(host)
  if not stored then return now > last and now or last, now end
  return now > stored and last + now - stored or last, now
end

local function digits(number)
  return string.format('%.0f', number)
end

-- The run_id of this server process, asked once: a restarted process has lost this variable with its memory,
-- whatever its files brought back. That is what makes a certificate die with the process it was given to.
local own_run_id

local function run_id()
  if not own_run_id then own_run_id = string.match(call('INFO', 'server'), 'run_id:(%x+)') end
  return own_run_id
end

local function not_certified(certified)
  return redis.error_reply('UNCERTIFIED this Redis process is ' .. run_id() .. ', the partition is certified for '
    .. (certified or 'none'))
end

local function wrong_epoch(epoch)
  return redis.error_reply('EPOCH the partition is closed or rebuilt: its epoch is ' .. (epoch or 'none'))
end

local function wrong_layout(layout)
  return redis.error_reply('EPOCH the partition was written by another version, in layout ' .. (layout or '1')
    .. ', not ' .. LAYOUT .. ': let it drain, then dosebook rebuild --all')
end

local DRAINS = { s = true, u = true, f = true, r = true, x = true, g = true, l = true, m = true, e = true, y = true,
  d = true, k = true, q = true }

local function run(keys, args, allowed)
  if not call then bind() end
  local outbox, epoch = keys[1], args[1]
  local prefix = sub(outbox, 1, -7)
  local meta = call('HMGET', prefix .. 'meta', 'epoch', 'clock', 'certified', 'last', 'host', 'layout')
  if meta[1] ~= epoch then return wrong_epoch(meta[1]) end
  if meta[6] ~= LAYOUT then return wrong_layout(meta[6]) end
  if meta[3] ~= (own_run_id or run_id()) then return not_certified(meta[3]) end
  local last, now, host = meta[4] or '', clocks_of(meta[2], meta[5])
  local partition = { prefix = prefix, outbox = outbox, epoch = epoch, now = now, last_event = last }
  local answers = { partition.now, '' }
  for i = 2, #args do
    local record = args[i]
    local code = sub(record, 1, 1)
    local op = (not allowed or allowed[code]) and ops[code]
    local ok, answer
    if op then ok, answer = pcall(op, partition, record) else ok, answer = false, 'no such operation here' end
    if not ok then answer = '!' .. (type(answer) == 'table' and answer.err or tostring(answer)) end
    answers[i + 1] = answer
  end
  answers[2] = partition.last_event
  if partition.last_event ~= last or host < (tonumber(meta[5]) or 0) then
    call('HSET', prefix .. 'meta', 'clock', digits(now), 'host', digits(host), 'last', partition.last_event)
  end
  return answers
end

local function step(keys, args)
  return run(keys, args)
end

local function drain(keys, args)
  return run(keys, args, DRAINS)
end

local function found_partition(keys, args)
  if not call then bind() end
  local prefix, epoch = sub(keys[1], 1, -7), args[1]
  if call('EXISTS', prefix .. 'meta', keys[1]) > 0 then return 0 end
  call('HSET', prefix .. 'meta', 'epoch', epoch, 'clock', digits(clocks_of()), 'certified', run_id(), 'layout', LAYOUT)
  return 1
end

local function certify(keys, args)
  if not call then bind() end
  local prefix, epoch, compared = sub(keys[1], 1, -7), args[1], args[2]
  local stored = call('HGET', prefix .. 'meta', 'epoch')
  if stored ~= epoch then return wrong_epoch(stored) end
  if compared ~= run_id() then return not_certified(compared) end
  call('HSET', prefix .. 'meta', 'certified', compared)
  return 1
end

local function reopen(keys, args)
  if not call then bind() end
  local prefix, epoch, written, token, clock = sub(keys[1], 1, -7), args[1], args[2], args[3], args[4]
  if written ~= run_id() then return not_certified(written) end
  if call('GET', prefix .. 'rebuild') ~= token or call('EXISTS', prefix .. 'meta', keys[1]) > 0 then
    return redis.error_reply('UNCERTIFIED what was rebuilt is not there any more, or another rebuild works on it')
  end
  call('HSET', prefix .. 'meta', 'epoch', epoch, 'clock', digits(clocks_of(clock)), 'certified', written,
    'layout', LAYOUT)
  call('DEL', prefix .. 'rebuild')
  return 1
end

local function touch(keys)
  redis.call('SET', keys[1], '')
  return 1
end

redis.register_function('dosebook_step', step)
redis.register_function{ function_name = 'dosebook_drain', callback = drain, flags = { 'allow-oom' } }
redis.register_function('dosebook_found', found_partition)
redis.register_function{ function_name = 'dosebook_certify', callback = certify, flags = { 'allow-oom' } }
redis.register_function('dosebook_reopen', reopen)
redis.register_function{ function_name = 'dosebook_touch', callback = touch, flags = { 'allow-oom' } }
