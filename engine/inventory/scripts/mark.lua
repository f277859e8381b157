-- mark: the persister was here. What it commits next follows from claims that this partition holds now; a copy of
-- the partition that lacks the mark may lack the claims, and is not certified again.
--
-- record  m <I8            mark
-- answers +                written

ops.m = function(partition, record)
  call('HSET', partition.prefix .. 'meta', 'mark', string.format('%.0f', unpack('<I8', record, 2)))
  return '+'
end
