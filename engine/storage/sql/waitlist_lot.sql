-- name: lock_worker
-- One worker, for as long as this connection lives.
select pg_try_advisory_lock(1685021544, 0)

-- name: insert
insert into waitlist_lot (offer_key, kind, location, session, slot, size, wishes, hold_ms, created_at, deadline)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
returning id

-- name: of_id
select id, uuid_send(offer_key) as offer_key, kind, location, session, slot, size, wishes, state, hold_ms,
    created_at, deadline
from waitlist_lot where id = $1

-- name: lock
-- Whoever changes a lot or its offers holds this first: lot, then offers, then entries.
select state, created_at, deadline from waitlist_lot where id = $1 for update

-- name: move
-- Compare-and-set of the state: lot, before, after, when.
update waitlist_lot set state = $3, closed_at = case when $3 = 'closed' then $4::timestamptz end
where id = $1 and state = $2

-- name: close
update waitlist_lot set state = 'closed', closed_at = $2 where id = $1 and state <> 'closed'

-- name: due
-- Lots that have to be driven on at $1: opening, closing, out of time, without anybody left, or with an
-- acceptance that was begun before $2 and not concluded. At most $3.
select l.id
from waitlist_lot l
where l.state in ('opening', 'closing') or l.state = 'open' and (
    l.deadline < $1
    or not exists (select from waitlist_offer o where o.lot = l.id and o.state in ('open', 'accepting'))
    or exists (
        select from waitlist_offer o where o.lot = l.id and o.state = 'accepting' and o.decided_at < $2
    )
)
order by l.id
limit $3

-- name: count_live
select count(*) from waitlist_lot where state <> 'closed'

-- name: forget
delete from waitlist_lot where id in (
    select id from waitlist_lot where closed_at < $1 order by closed_at limit $2
)
