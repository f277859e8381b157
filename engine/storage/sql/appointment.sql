-- name: audited
select uuid_send(person_key), kind, generation, dose, place, revision, session, slot, seat, live, joined,
    left_revision
from appointment
order by person_key, kind, generation, dose, revision

-- name: parts
-- Seats away from their courses' homes, in these partitions: those that their own partition has, and those that a
-- live course counts. A course that Postgres does not have (yet) has nulls; so has a part that it has not heard of.
select uuid_send(a.person_key), a.kind, a.generation, a.dose, a.revision, a.place, a.session, a.slot, a.seat,
    a.home, coalesce(a.op, h.op, c.op), c.location,
    a.joined and a.left_revision is null and coalesce(c.state in ('b', 'h'), false)
from appointment a
left join course c using (person_key, kind, generation)
left join change h
    on h.person_key = a.person_key and h.kind = a.kind and h.generation = a.generation and h.revision = a.revision
where a.place = any($1::integer[])
    and (a.live or a.joined and a.left_revision is null and c.state in ('b', 'h'))

-- name: take_counted
-- Seats that a live course counts, though these partitions never told that they set them aside: they have lost it.
update appointment a set live = true
from course c
where c.person_key = a.person_key and c.kind = a.kind and c.generation = a.generation and c.state in ('b', 'h')
    and a.place = any($1::integer[]) and a.joined and a.left_revision is null
    and not a.live and a.ended_at is null

-- name: released_by
-- Session, slot, since: who gave up a seat of that slot since then. An offer that ended is one of them.
select distinct uuid_send(person_key) as person from appointment
where session = $1 and slot = $2 and not live and ended_at >= $3
