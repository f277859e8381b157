-- name: create_planned
create temp table if not exists planned_session (
    location integer, vaccine text, day date, starts_at timestamptz,
    slot_minutes integer, slots integer, lines integer, seats bytea
) on commit delete rows

-- name: analyze_planned
analyze planned_session

-- name: insert_planned
-- The anti-join spares the numbers that a conflict would use up; the conflict clause holds against a rival.
insert into session (location, vaccine, day, starts_at, slot_minutes, slots, lines, seats)
select location, vaccine, day, starts_at, slot_minutes, slots, lines, seats
from planned_session p
where not exists (
    select from session s
    where s.location = p.location and s.starts_at = p.starts_at and s.vaccine = p.vaccine
)
on conflict do nothing

-- name: places
select id, location from session order by id

-- name: stocks
select id, location, lines, seats from session where id = any($1::integer[])

-- name: stocks_after
-- The next $2 sessions after $1, for passing through all of them.
select id, location, lines, seats from session where id > $1 order by id limit $2

-- name: all
select id, location, vaccine, day, starts_at, slot_minutes, slots, lines from session order by id
