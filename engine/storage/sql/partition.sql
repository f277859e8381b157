-- name: lock
-- One persister per partition, for as long as this connection lives.
select pg_try_advisory_lock(1685021542, $1)

-- name: found
insert into partition (partition, epoch) values ($1, 1) on conflict do nothing

-- name: mark_founded
update partition set founded = true where partition = $1

-- name: all
select partition, epoch, watermark, founded, digest, run_id, mark from partition order by partition

-- name: advance
-- Compare-and-set of the watermarks: partitions, epochs, watermarks before, watermarks after, digests of the
-- entries there. Answers how many moved; who listens hears of them with the commit, and which process it was.
with moved as (
    update partition p set watermark = n.later, digest = n.digest
    from unnest($1::integer[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[])
        as n (partition, epoch, earlier, later, digest)
    where p.partition = n.partition and p.epoch = n.epoch and p.watermark = n.earlier
    returning p.partition || ':' || p.epoch || ':' || p.watermark || ':' || coalesce(p.run_id, '') as words
)
select count(*), pg_notify('dosebook_watermark', coalesce(string_agg(words, ' '), '')) from moved

-- name: mark
-- Partitions, epochs, marks: each was written to Redis before.
update partition p set mark = n.mark
from unnest($1::integer[], $2::bigint[], $3::bigint[]) as n (partition, epoch, mark)
where p.partition = n.partition and p.epoch = n.epoch

-- name: certify
-- Partitions, epochs, run_ids. An epoch that has moved on meanwhile is left alone.
update partition p set run_id = n.run_id
from unnest($1::integer[], $2::bigint[], $3::text[]) as n (partition, epoch, run_id)
where p.partition = n.partition and p.epoch = n.epoch and p.run_id is distinct from n.run_id

-- name: rebuild_lock
-- One rebuild per partition, for as long as this connection lives.
select pg_try_advisory_lock(1685021543, $1)

-- name: next_epoch
-- Compare-and-set: partition, epoch, watermark. From here on nobody commits what the old epoch's outbox told.
update partition set epoch = epoch + 1, watermark = -1, digest = null, run_id = null, mark = 0, founded = true
where partition = $1 and epoch = $2 and watermark = $3
