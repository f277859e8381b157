-- dosebook_step: one mixed list of operations for one partition.
--
-- KEYS    outbox           {p07}:outbox
-- ARGV    epoch            the epoch that the caller was certified for
--         record ...       any mix of the operations above, in order
-- returns {now_ms, last_event_id or '', answer ...}; an item in error answers `!` and the reason, alone
-- error   EPOCH            the partition is closed, empty or rebuilt: nothing was done
--         OOM              memory is full: nothing was done
--
-- dosebook_drain: the same for the operations that give something back or only tell what is (free, settle,
-- unclaim, resolve, cancel, and the reads), which pass when memory is full; any other is an item in error.
--
-- dosebook_found: creates an empty partition.
--
-- KEYS    outbox
-- ARGV    epoch
-- returns 1 founded, 0 it is there already (of whatever epoch)

local function clock_of(stored)
  local time = call('TIME')
  local now = time[1] * 1000 + (time[2] - time[2] % 1000) / 1000
  local last = tonumber(stored) or 0
  return now > last and now or last
end

local DRAINS = { s = true, u = true, f = true, r = true, x = true, g = true, l = true }

local function run(keys, args, allowed)
  if not call then bind() end
  local outbox, epoch = keys[1], args[1]
  local prefix = sub(outbox, 1, -7)
  local meta = call('HMGET', prefix .. 'meta', 'epoch', 'clock')
  if meta[1] ~= epoch then
    return redis.error_reply('EPOCH the partition is closed or rebuilt: its epoch is ' .. (meta[1] or 'none'))
  end
  local partition = { prefix = prefix, outbox = outbox, epoch = epoch, now = clock_of(meta[2]), last_event = '' }
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
  if partition.last_event ~= '' then call('HSET', prefix .. 'meta', 'clock', string.format('%.0f', partition.now)) end
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
  call('HSET', prefix .. 'meta', 'epoch', epoch, 'clock', string.format('%.0f', clock_of()))
  return 1
end

redis.register_function('dosebook_step', step)
redis.register_function{ function_name = 'dosebook_drain', callback = drain, flags = { 'allow-oom' } }
redis.register_function('dosebook_found', found_partition)
