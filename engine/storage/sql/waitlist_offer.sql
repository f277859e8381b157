-- name: insert
insert into waitlist_offer (lot, entry, session, slot)
select $1, entry, $3, $4 from unnest($2::bigint[]) as entry order by entry

-- name: of_lot
select id, entry, state, opened_at from waitlist_offer where lot = $1 order by id

-- name: of_entry
-- The offer that an entry has now.
select id, lot from waitlist_offer where entry = $1 and state in ('opening', 'open', 'accepting')

-- name: of_id
select o.id, o.lot, o.entry, o.state, o.accept_key, o.decided_at, l.deadline
from waitlist_offer o join waitlist_lot l on l.id = o.lot where o.id = $1

-- name: opening
-- Those of a lot whom somebody still has to look at before they are told.
select o.id, o.entry, e.kind,
    (select array_agg(uuid_send(m.person_key) order by m.position) from waitlist_member m where m.entry = e.id)
        as people
from waitlist_offer o join waitlist_entry e on e.id = o.entry
where o.lot = $1 and o.state = 'opening' order by o.id

-- name: open
update waitlist_offer set state = 'open', opened_at = $2 where lot = $1 and state = 'opening' returning id

-- name: accept
-- Compare-and-set: offer, idempotency key, when.
update waitlist_offer set state = 'accepting', accept_key = $2, decided_at = $3 where id = $1 and state = 'open'

-- name: decide
-- Compare-and-set: offers, states before, state after, when. Answers those that moved.
update waitlist_offer set state = $3, decided_at = $4
where id = any($1::bigint[]) and state = any($2::text[])
returning id, entry, opened_at

-- name: decide_of_lot
-- The same for all offers of a lot.
update waitlist_offer set state = $3, decided_at = $4
where lot = $1 and state = any($2::text[])
returning id, entry, opened_at

-- name: standing
select taken, decided, entries from waitlist_standing

-- name: lock_standing
select taken, decided from waitlist_standing for update

-- name: found_standing
insert into waitlist_standing (taken, decided) values ($1, $2) on conflict do nothing

-- name: note
update waitlist_standing set taken = $1, decided = $2

-- name: count_entries
update waitlist_standing set entries = (
    select count(*) from waitlist_entry where state in ('waiting', 'offered')
)
