-- name: audited
select uuid_send(person_key), kind, generation, location, state::text, op, revision,
    coalesce(round(extract(epoch from until) * 1000), 0)::bigint, given_vaccine, given_day
from course

-- name: of_person
select kind, generation, location, state::text as state, booked_at, cancelled_at
from course where person_key = $1 order by kind, generation

-- name: count_live
select count(*) from course where state in ('b', 'h')

-- name: count
-- Every course that was ever booked, the cancelled ones too.
select count(*) from course

-- name: rebuilt
-- Every course with its appointments, one row for each, person by person: what a rebuild is made of.
select uuid_send(c.person_key), c.kind, c.generation, c.location, c.state::text, c.op, c.revision,
    coalesce(round(extract(epoch from c.until) * 1000), 0)::bigint, c.given_vaccine, c.given_day,
    a.dose, a.session, a.slot, a.seat, a.revision as brought, a.place, a.live, a.joined, a.left_revision
from course c left join appointment a using (person_key, kind, generation)
order by c.person_key, c.kind, c.generation, a.revision, a.place <> 255, a.place, a.dose

-- name: latest_ms
-- The latest time that any partition's clock has shown, in ms.
select coalesce(max(extract(epoch from t)) * 1000, 0)::bigint
from (
    select max(greatest(booked_at, cancelled_at)) from course
    union all select max(at) from change
    union all select max(ended_at) from appointment
) as latest (t)
