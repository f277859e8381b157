-- name: lock
-- One persister per partition, for as long as this connection lives.
select pg_try_advisory_lock(1685021542, $1)

-- name: found
insert into partition (partition, epoch) values ($1, 1) on conflict do nothing

-- name: mark_founded
update partition set founded = true where partition = $1

-- name: all
select partition, epoch, watermark, founded from partition order by partition

-- name: advance
-- Compare-and-set of the watermarks: partitions, epochs, watermarks before, watermarks after.
update partition p set watermark = n.later
from unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[]) as n (partition, epoch, earlier, later)
where p.partition = n.partition and p.epoch = n.epoch and p.watermark = n.earlier
