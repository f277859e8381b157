-- name: audited
select uuid_send(person_key), kind, generation, dose, session, slot, seat, live from appointment
order by person_key, kind, generation, dose

-- name: released_by
-- Session, slot, since: who gave up a seat of that slot since then. An offer that ended is one of them.
select distinct uuid_send(person_key) as person from appointment
where session = $1 and slot = $2 and not live and ended_at >= $3
