-- name: insert
-- Partitions, sequences, reasons, payloads; the epoch is the partition's own.
insert into quarantine (partition, epoch, sequence, reason, payload)
select q.partition, p.epoch, q.sequence, q.reason, q.payload
from unnest($1::integer[], $2::bigint[], $3::text[], $4::bytea[]) as q (partition, sequence, reason, payload)
join partition p using (partition)

-- name: all
select partition, epoch, sequence, reason, payload, at from quarantine order by partition, epoch, sequence
