-- open: puts a session's seats on sale. Idempotent: a session that is there is left as it is, so that opening
-- twice never gives a sold seat back. (A partition that lost its data is closed by its epoch, not reopened.)
--
-- record  o <I4B           session width, then the seat mask
-- answers + | =            opened | was open before

ops.o = function(partition, record)
  local session, width, at = unpack('<I4B', record, 2)
  if width == 0 or (#record - at + 1) % width ~= 0 then error('mask and width do not fit') end
  local opened = call('SET', session_at(partition, session), 'o' .. char(width) .. sub(record, at), 'NX')
  return opened and '+' or '='
end
