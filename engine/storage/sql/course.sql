-- name: audited
select uuid_send(person_key), kind, generation, location, state::text, op from course

-- name: of_person
select kind, generation, location, state::text as state, booked_at, cancelled_at
from course where person_key = $1 order by kind, generation

-- name: count_live
select count(*) from course where state = 'b'

-- name: count
-- Every course that was ever booked, the cancelled ones too.
select count(*) from course

-- name: rebuilt
-- Every course with its appointments, one row for each, person by person: what a rebuild is made of.
select uuid_send(c.person_key), c.kind, c.generation, c.location, c.state::text, c.op, c.cancel_op,
    a.dose, a.session, a.slot, a.seat
from course c left join appointment a using (person_key, kind, generation)
order by c.person_key, c.kind, c.generation, a.dose

-- name: latest_ms
-- The latest time that any partition's clock has shown, in ms.
select coalesce(max(extract(epoch from greatest(booked_at, cancelled_at))) * 1000, 0)::bigint from course
