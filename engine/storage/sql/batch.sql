-- A batch of folded events on its way into course and appointment. `n` is the event's number in the batch;
-- two events of one partition compare by it as they happened.

-- name: create_taken
create temp table batch_taken (
    n integer primary key, partition integer not null, person_key uuid not null, kind smallint not null,
    generation bigint not null, session bigint not null, op bytea not null, booked_ms bigint not null,
    cancelled_ms bigint not null, cancel_op bytea not null
) on commit delete rows

-- name: create_seat
create temp table batch_seat (
    n integer not null, dose smallint not null, session bigint not null, slot integer not null,
    seat integer not null
) on commit delete rows

-- name: create_released
create temp table batch_released (
    n integer not null, partition integer not null, person_key uuid not null, kind smallint not null,
    generation bigint not null, cancelled_ms bigint not null, cancel_op bytea not null,
    primary key (person_key, kind, generation)
) on commit delete rows

-- name: broken
-- The proofs, event by event, against what is committed. A seat or a person is free again when the same batch
-- releases it, provided that the release came first (order across partitions is not known: then it counts).
-- A course that the person's next one has overtaken, since its outbox was held up, is one that has ended.
select t.n, 'course-repeated' as reason
from batch_taken t join course c using (person_key, kind, generation)
union all
select t.n, 'unregistered-person'
from batch_taken t
where not exists (select from person p where p.person_key = t.person_key)
union all
select b.n, case when s.id is null then 'unknown-session' else 'seat-not-on-sale' end
from batch_seat b left join session s on s.id = b.session
where case when s.id is null or b.slot >= s.slots or b.seat >= s.lines then true
    else get_bit(s.seats, b.slot * ((s.lines + 7) / 8) * 8 + b.seat) = 0 end
union all
select b.n, 'seat-taken'
from batch_seat b
join appointment a on a.session = b.session and a.slot = b.slot and a.seat = b.seat and a.live
left join batch_released r using (person_key, kind, generation)
where r.n is null or r.n > b.n
union all
select t.n, case when c.generation > t.generation then 'overtaken' else 'person-live' end
from batch_taken t
join course c on c.person_key = t.person_key and c.kind = t.kind and c.state = 'b'
left join batch_released r
    on r.person_key = c.person_key and r.kind = c.kind and r.generation = c.generation
where c.generation <> t.generation and (r.n is null or (r.partition = t.partition and r.n > t.n))
    and (c.generation < t.generation or t.cancelled_ms = 0)
union all
select r.n, 'course-not-live'
from batch_released r
where not exists (
    select from course c
    where c.person_key = r.person_key and c.kind = r.kind and c.generation = r.generation and c.state = 'b'
)
order by 1

-- name: drop_taken
delete from batch_taken where n = any($1::integer[])

-- name: drop_seat
delete from batch_seat where n = any($1::integer[])

-- name: drop_released
delete from batch_released where n = any($1::integer[])

-- name: release_courses
update course c set state = 'x', cancelled_at = to_timestamp(r.cancelled_ms / 1000.0), cancel_op = r.cancel_op
from batch_released r
where c.person_key = r.person_key and c.kind = r.kind and c.generation = r.generation and c.state = 'b'

-- name: release_seats
update appointment a set live = false
from batch_released r
where a.person_key = r.person_key and a.kind = r.kind and a.generation = r.generation and a.live

-- name: take_courses
insert into course (person_key, kind, generation, location, state, booked_at, cancelled_at, op, cancel_op)
select t.person_key, t.kind, t.generation, s.location, case when t.cancelled_ms = 0 then 'b' else 'x' end::"char",
    to_timestamp(t.booked_ms / 1000.0),
    case when t.cancelled_ms > 0 then to_timestamp(t.cancelled_ms / 1000.0) end, t.op,
    case when t.cancelled_ms > 0 then t.cancel_op end
from batch_taken t join session s on s.id = t.session

-- name: take_seats
insert into appointment (person_key, kind, generation, dose, session, slot, seat, live)
select t.person_key, t.kind, t.generation, b.dose, b.session, b.slot, b.seat, t.cancelled_ms = 0
from batch_seat b join batch_taken t using (n)
