-- A batch of folded events on its way into course, change and appointment (engine/outbox/fold.py). `n` is the event's
-- number in the batch; two events of one partition compare by it as they happened. Times are in ms, 0 for none.

-- name: create_begun
-- Courses that begin, as the batch leaves them.
create temp table batch_begun (
    n integer primary key, partition integer not null, person_key uuid not null, kind smallint not null,
    generation bigint not null, session bigint not null, op bytea not null, begun_ms bigint not null,
    state "char" not null, revision integer not null, until_ms bigint not null, ended_ms bigint not null,
    given_vaccine smallint not null, given_day integer not null
) on commit delete rows

-- name: create_continued
-- Courses that are committed, as the batch leaves them. `act` and `first_revision` are those of the first event.
create temp table batch_continued (
    n integer not null, partition integer not null, person_key uuid not null, kind smallint not null,
    generation bigint not null, act "char" not null, first_revision integer not null, state "char" not null,
    revision integer not null, until_ms bigint not null, end_n integer not null, ended_ms bigint not null,
    primary key (person_key, kind, generation)
) on commit delete rows

-- name: create_change
create temp table batch_change (
    n integer primary key, person_key uuid not null, kind smallint not null, generation bigint not null,
    revision integer not null, act "char" not null, op bytea not null, at_ms bigint not null
) on commit delete rows

-- name: create_taken
-- Seats taken. ended_ms -1: the row is written by a later one.
create temp table batch_taken (
    n integer not null, person_key uuid not null, kind smallint not null, generation bigint not null,
    dose smallint not null, revision integer not null, place smallint not null, session bigint not null,
    slot integer not null, seat integer not null, ended_ms bigint not null, left_revision integer not null
) on commit delete rows

-- name: create_released
-- Seats of committed rows, released. left_revision 0: of a part.
create temp table batch_released (
    n integer not null, person_key uuid not null, kind smallint not null, generation bigint not null,
    dose smallint not null, revision integer not null, place smallint not null, session bigint not null,
    slot integer not null, seat integer not null, ended_ms bigint not null, left_revision integer not null,
    primary key (person_key, kind, generation, dose, revision, place)
) on commit delete rows

-- name: create_part
-- What a partition has to say of the seats that it set aside by the event n. home 255: nothing.
create temp table batch_part (n integer primary key, home smallint not null, op bytea not null)
on commit delete rows

-- name: create_joined
-- Seats elsewhere that their courses count; left_revision 0: still.
create temp table batch_joined (
    n integer not null, person_key uuid not null, kind smallint not null, generation bigint not null,
    dose smallint not null, revision integer not null, place smallint not null, session bigint not null,
    slot integer not null, seat integer not null, left_revision integer not null
) on commit delete rows

-- name: create_left
-- Seats elsewhere, joined in committed rows, that their courses count no more.
create temp table batch_left (
    n integer not null, person_key uuid not null, kind smallint not null, generation bigint not null,
    dose smallint not null, revision integer not null, place smallint not null, left_revision integer not null,
    primary key (person_key, kind, generation, dose, revision, place)
) on commit delete rows

-- name: clear
truncate batch_begun, batch_continued, batch_change, batch_taken, batch_released, batch_part, batch_joined,
    batch_left

-- name: broken
-- The proofs, event by event, against what is committed. A seat or a person is free again when the same batch
-- releases it, provided that the release came first (order across partitions is not known: then it counts).
-- A course that the person's next one has overtaken, since its outbox was held up, is one that has ended.
-- Kind 3 is an offer (engine/domain/course.py), of which no person is registered.
select t.n, 'course-repeated' as reason
from batch_begun t join course c using (person_key, kind, generation)
union all
select t.n, 'unregistered-person'
from batch_begun t
where t.kind <> 3 and not exists (select from person p where p.person_key = t.person_key)
union all
select b.n, 'unregistered-person'
from batch_taken b
where b.place <> 255 and b.kind <> 3 and not exists (select from person p where p.person_key = b.person_key)
union all
select b.n, case when s.id is null then 'unknown-session' else 'seat-not-on-sale' end
from (
    select n, session, slot, seat from batch_taken union all select n, session, slot, seat from batch_joined
) b left join session s on s.id = b.session
where case when s.id is null or b.slot >= s.slots or b.seat >= s.lines then true
    else get_bit(s.seats, b.slot * ((s.lines + 7) / 8) * 8 + b.seat) = 0 end
union all
select b.n, 'seat-taken'
from batch_taken b
join appointment a on a.session = b.session and a.slot = b.slot and a.seat = b.seat and a.live
left join batch_released r
    on r.person_key = a.person_key and r.kind = a.kind and r.generation = a.generation and r.dose = a.dose
    and r.revision = a.revision and r.place = a.place
where r.n is null or r.n >= b.n
union all
select b.n, 'part-repeated'
from batch_taken b
join appointment a using (person_key, kind, generation, dose, revision, place)
left join batch_released r using (person_key, kind, generation, dose, revision, place)
where b.place <> 255 and a.live and (r.n is null or r.n > b.n)
union all
select r.n, 'seat-not-live'
from batch_released r
where not exists (
    select from appointment a
    where a.person_key = r.person_key and a.kind = r.kind and a.generation = r.generation and a.dose = r.dose
        and a.revision = r.revision and a.place = r.place and a.live
        and a.session = r.session and a.slot = r.slot and a.seat = r.seat
)
union all
select l.n, 'seat-not-live'
from batch_left l
where not exists (
    select from appointment a
    where a.person_key = l.person_key and a.kind = l.kind and a.generation = l.generation and a.dose = l.dose
        and a.revision = l.revision and a.place = l.place and a.joined and a.left_revision is null
)
union all
select t.n, case when c.generation > t.generation then 'overtaken' else 'person-live' end
from batch_begun t
join course c on c.person_key = t.person_key and c.kind = t.kind and c.state in ('b', 'h')
left join batch_continued r
    on r.person_key = c.person_key and r.kind = c.kind and r.generation = c.generation and r.ended_ms > 0
where c.generation <> t.generation and (r.n is null or (r.partition = t.partition and r.end_n > t.n))
    and (c.generation < t.generation or t.ended_ms = 0)
union all
select r.n, case when c.state is null or not case
        when r.act in ('c', 'w', 'e') then c.state = 'h'
        when r.act = 'v' then c.state = 'b'
        else c.state in ('b', 'h')
    end then 'course-not-live' else 'revision-repeated' end
from batch_continued r left join course c using (person_key, kind, generation)
where c.state is null or c.revision >= r.first_revision or not case
        when r.act in ('c', 'w', 'e') then c.state = 'h'
        when r.act = 'v' then c.state = 'b'
        else c.state in ('b', 'h')
    end
union all
select distinct r.end_n, 'half-ended'
from batch_continued r
join course c using (person_key, kind, generation)
join appointment a using (person_key, kind, generation)
where r.ended_ms > 0 and c.state in ('b', 'h') and a.joined and a.left_revision is null
    and not exists (
        select from batch_released b
        where b.person_key = a.person_key and b.kind = a.kind and b.generation = a.generation and b.dose = a.dose
            and b.revision = a.revision and b.place = a.place and b.left_revision > 0
    )
    and not exists (
        select from batch_left b
        where b.person_key = a.person_key and b.kind = a.kind and b.generation = a.generation and b.dose = a.dose
            and b.revision = a.revision and b.place = a.place
    )
order by 1, 2

-- name: release_seats
update appointment a
set live = false, ended_at = to_timestamp(r.ended_ms / 1000.0),
    left_revision = coalesce(nullif(r.left_revision, 0), a.left_revision)
from batch_released r
where a.person_key = r.person_key and a.kind = r.kind and a.generation = r.generation and a.dose = r.dose
    and a.revision = r.revision and a.place = r.place and a.live

-- name: leave_seats
update appointment a set left_revision = l.left_revision
from batch_left l
where a.person_key = l.person_key and a.kind = l.kind and a.generation = l.generation and a.dose = l.dose
    and a.revision = l.revision and a.place = l.place and a.joined and a.left_revision is null

-- name: continue_courses
update course c
set state = r.state, revision = r.revision,
    until = case when r.until_ms > 0 then to_timestamp(r.until_ms / 1000.0) end,
    cancelled_at = case when r.ended_ms > 0 then to_timestamp(r.ended_ms / 1000.0) end
from batch_continued r
where c.person_key = r.person_key and c.kind = r.kind and c.generation = r.generation and c.state in ('b', 'h')

-- name: begin_courses
insert into course (
    person_key, kind, generation, location, state, booked_at, cancelled_at, op, revision, until, given_vaccine,
    given_day
)
select t.person_key, t.kind, t.generation, s.location, t.state, to_timestamp(t.begun_ms / 1000.0),
    case when t.ended_ms > 0 then to_timestamp(t.ended_ms / 1000.0) end, t.op, t.revision,
    case when t.until_ms > 0 then to_timestamp(t.until_ms / 1000.0) end, t.given_vaccine, t.given_day
from batch_begun t join session s on s.id = t.session

-- name: insert_changes
insert into change (person_key, kind, generation, revision, act, op, at)
select person_key, kind, generation, revision, act, op, to_timestamp(at_ms / 1000.0) from batch_change

-- name: take_seats
insert into appointment (
    person_key, kind, generation, dose, session, slot, seat, live, revision, left_revision, ended_at
)
select person_key, kind, generation, dose, session, slot, seat, ended_ms = 0, revision, nullif(left_revision, 0),
    case when ended_ms > 0 then to_timestamp(ended_ms / 1000.0) end
from batch_taken where place = 255

-- name: take_parts
-- The home may have told of the row before, and the part may have been set aside before.
insert into appointment (
    person_key, kind, generation, dose, revision, place, session, slot, seat, live, joined, ended_at, home, op
)
select person_key, kind, generation, dose, revision, place, session, slot, seat, ended_ms = 0, false,
    case when ended_ms > 0 then to_timestamp(ended_ms / 1000.0) end, nullif(home, 255), op
from batch_taken join batch_part using (n) where place <> 255 and ended_ms >= 0
on conflict (person_key, kind, generation, dose, revision, place) do update
set session = excluded.session, slot = excluded.slot, seat = excluded.seat, live = excluded.live,
    ended_at = excluded.ended_at, home = excluded.home, op = excluded.op

-- name: join_parts
-- The seat's partition may have told of the row before, or will.
insert into appointment (
    person_key, kind, generation, dose, revision, place, session, slot, seat, live, joined, left_revision
)
select person_key, kind, generation, dose, revision, place, session, slot, seat, false, true,
    nullif(left_revision, 0)
from batch_joined
on conflict (person_key, kind, generation, dose, revision, place) do update
set joined = true, left_revision = excluded.left_revision
