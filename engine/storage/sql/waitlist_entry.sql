-- name: lock_people
-- One joining at a time for a person, so that the bound for each holds; in the order of the keys.
select pg_advisory_xact_lock(k) from unnest($1::bigint[]) as k

-- name: by_op
select id, op_digest from waitlist_entry where op_key = $1

-- name: count_live
-- The most entries that one of these people has.
select coalesce(max(n), 0) from (
    select count(*) as n
    from waitlist_member m join waitlist_entry e on e.id = m.entry
    where m.person_key = any($1::uuid[]) and e.state in ('waiting', 'offered')
    group by m.person_key
) as each

-- name: registered
select count(*) from person where person_key = any($1::uuid[])

-- name: insert
insert into waitlist_entry (purpose, kind, shape, size, lat, lon, radius_km, first_day, last_day, weekdays,
    vaccines, op_key, op_digest, joined_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text[], $12, $13, $14)
returning id

-- name: insert_members
insert into waitlist_member (entry, position, person_key, sealed)
select $1, m.position, m.person_key, m.sealed
from unnest($2::uuid[], $3::bytea[]) with ordinality as m (person_key, sealed, position)

-- name: insert_cells
insert into waitlist_cell (cell, entry, form, first_day, last_day, weekdays)
select cell, $1, $3, $4, $5, $6 from unnest($2::integer[]) as cell

-- name: members
select uuid_send(person_key) as person, sealed from waitlist_member where entry = $1 order by position

-- name: of_id
select id, purpose, kind, shape, size, lat, lon, radius_km, first_day, last_day, weekdays, vaccines, state,
    joined_at, closed_at
from waitlist_entry where id = $1

-- name: of_person
-- The entries of a person that wait, in the order of joining.
select m.entry
from waitlist_member m join waitlist_entry e on e.id = m.entry
where m.person_key = any($1::uuid[]) and e.state in ('waiting', 'offered') 
    and ($2::smallint is null or e.kind = $2) and ($3::text is null or e.purpose = $3)
group by m.entry order by m.entry

-- name: line
-- The first $11 entries that a place is for: cells there, its degrees, vaccine, session and slot, location and
-- day of telling, people it is not for, entries passed over already. What is known of forms: the day of the
-- first dose (null: none can be had); an entry of another form is in line too.
-- Nobody of an entry in line was offered this slot before, in whatever entry.
-- Each cell is read from the front and only as far as needed.
select e.id, e.kind, e.shape, e.size,
    (select array_agg(uuid_send(m.person_key) order by m.position) from waitlist_member m where m.entry = e.id)
        as people
from unnest($1::integer[]) as at (cell)
cross join lateral (
    select e.id, e.kind, e.shape, e.size
    from waitlist_cell c join waitlist_entry e on e.id = c.entry
    where c.cell = at.cell and e.state = 'waiting'
        and (cardinality(e.vaccines) = 0 or $4::text = any(e.vaccines))
        and 12742.0176 * asin(least(1.0, sqrt(
            sin(radians(e.lat - $2::float8) / 2) ^ 2
            + cos(radians(e.lat)) * cos(radians($2::float8)) * sin(radians(e.lon - $3::float8) / 2) ^ 2
        ))) <= e.radius_km
        and coalesce((
            select coalesce(k.day between c.first_day and c.last_day
                and (c.weekdays >> (extract(isodow from k.day)::integer - 1)) & 1 = 1, false)
            from unnest($12::bigint[], $13::date[]) as k (form, day)
            where k.form = c.form
        ), true)
        and e.id <> all($10::bigint[])
        and not exists (
            select
            from waitlist_member m
            join waitlist_member same on same.person_key = m.person_key
            join waitlist_offer o on o.entry = same.entry
            where m.entry = e.id and o.session = $5::integer and o.slot = $6::integer
                and (o.opened_at is not null or o.state = 'opening')
        )
        and not exists (
            select from alert_told t where t.entry = e.id and t.location = $7::integer and t.day = $8::date
        )
        and not exists (
            select from waitlist_member m where m.entry = e.id and m.person_key = any($9::uuid[])
        )
    order by c.entry
    limit $11
) as e
order by e.id
limit $11

-- name: wanted
-- Of these pairs of location and cell, the locations that somebody waits for.
select distinct w.location
from unnest($1::integer[], $2::integer[]) as w (location, cell)
where exists (select from waitlist_cell c where c.cell = w.cell)
order by 1

-- name: before
-- How many entries of the same kind before this one want a place where it wants one: their circle covers the
-- middle of its own. Id, kind, cells and degrees of that middle, and the most that is counted.
select count(*) from (
    select
    from unnest($3::integer[]) as at (cell)
    cross join lateral (
        select
        from waitlist_cell c join waitlist_entry e on e.id = c.entry
        where c.cell = at.cell and c.entry < $1 and e.kind = $2
            and 12742.0176 * asin(least(1.0, sqrt(
                sin(radians(e.lat - $4::float8) / 2) ^ 2
                + cos(radians(e.lat)) * cos(radians($4::float8)) * sin(radians(e.lon - $5::float8) / 2) ^ 2
            ))) <= e.radius_km
        order by c.entry
        limit $6
    ) as e
    limit $6
) as found

-- name: offer
-- Entries that still wait are offered something now.
update waitlist_entry set state = 'offered' where id = any($1::bigint[]) and state = 'waiting' returning id

-- name: wait_again
update waitlist_entry set state = 'waiting' where id = any($1::bigint[]) and state = 'offered'

-- name: lock
select state from waitlist_entry where id = $1 for update

-- name: close
-- Entries, the state that they end in, when.
with closed as (
    update waitlist_entry set state = $2, closed_at = $3
    where id = any($1::bigint[]) and state in ('waiting', 'offered')
    returning id
), off_the_grid as (
    delete from waitlist_cell c using closed where c.entry = closed.id
)
select id from closed order by id

-- name: close_waiting
-- The same for entries that have no offer now.
with closed as (
    update waitlist_entry set state = $2, closed_at = $3
    where id = any($1::bigint[]) and state = 'waiting'
    returning id
), off_the_grid as (
    delete from waitlist_cell c using closed where c.entry = closed.id
)
select id from closed order by id

-- name: ended
-- Waiting entries whose last day is before $1, at most $2.
select id from waitlist_entry where state = 'waiting' and last_day < $1 order by last_day limit $2

-- name: booked_meanwhile
-- Of the $2 entries after $1: the last of them, and those of which somebody has a live course by now.
with page as (
    select id, kind from waitlist_entry where id > $1 and state = 'waiting' and purpose = 'seats'
    order by id limit $2
)
select (select max(id) from page) as last, array(
    select distinct p.id
    from page p join waitlist_member m on m.entry = p.id
    join course c on c.person_key = m.person_key and c.kind = p.kind and c.state = 'b'
) as booked

-- name: tell
-- Entries, location, day, session, when. One a day and location.
insert into alert_told (entry, location, day, session, told_at)
select entry, $2, $3, $4, $5 from unnest($1::bigint[]) as entry
on conflict do nothing
returning entry

-- name: anybody
-- Whether anybody waits.
select exists (select from waitlist_entry where state = 'waiting')

-- name: told
-- What an alert was told of, the latest first, at most $2.
select location, day, told_at from alert_told where entry = $1 order by told_at desc limit $2

-- name: forget
-- Entries closed before $1, at most $2, with their members and offers.
delete from waitlist_entry where id in (
    select id from waitlist_entry where closed_at < $1 order by closed_at limit $2
)

-- name: forget_told
delete from alert_told where (entry, location, day) in (
    select entry, location, day from alert_told where told_at < $1 order by told_at limit $2
)
