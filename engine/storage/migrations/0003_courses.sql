-- Courses that are held, moved and begun elsewhere.
--
-- An appointment is one seat that one revision of a course took for one dose. Two parties write its row, each its own
-- columns, in whatever order their outboxes are read: the seat's partition says whether the seat is taken (live,
-- ended_at); the course's home says whether the course counts it (joined, and left_revision when it does no more). At
-- the course's own location both are told by one event. A seat that was set aside elsewhere and that the home does
-- not count (yet) has joined = false: it is a part in doubt, and home and op are what its partition has to say of it.
-- The place is in the key: while a seat that was set aside for a revision waits to
-- be given back, because whoever asked for it died, another change may make that revision with a seat of its own.

alter table course
    drop constraint course_state_check,
    add constraint course_state_check check (state in ('b', 'h', 'x')),
    add column revision integer not null default 1,
    -- When a hold ends, by its partition's clock; null for a course that is not held.
    add column until timestamptz,
    -- The last dose that was given elsewhere: the state's number of the vaccine, days since 1970-01-01; 0 for none.
    add column given_vaccine smallint not null default 0,
    add column given_day integer not null default 0;

drop index course_one_live;
create unique index course_one_live on course (person_key, kind) where state in ('b', 'h');

alter table appointment
    add column revision integer not null default 1,
    -- The partition of a seat that is not in the course's home; 255 for those that are.
    add column place smallint not null default 255,
    add column joined boolean not null default true,
    add column left_revision integer,
    add column ended_at timestamptz,
    -- Of a part, as its own partition told of it (event a): the partition that decides about it, and the op that set
    -- it aside. Null for a seat in the course's home, and until the part's event has been read.
    add column home smallint,
    add column op bytea,
    drop constraint appointment_pkey,
    add primary key (person_key, kind, generation, dose, revision, place);

update appointment a set left_revision = 2, ended_at = c.cancelled_at
from course c
where c.person_key = a.person_key and c.kind = a.kind and c.generation = a.generation and c.state = 'x';

-- Who gave a seat up, for the waitlist: it is not offered to them.
create index appointment_ended on appointment (session, slot) where not live;

-- The writes that changed a course after it began, by the revision that they made. act: c confirmed, w extended,
-- v moved, x cancelled, e expired (op is zeros).
create table change (
    person_key uuid not null,
    kind       smallint not null,
    generation bigint not null,
    revision   integer not null,
    act        "char" not null check (act in ('c', 'w', 'v', 'x', 'e')),
    op         bytea not null,
    at         timestamptz not null,
    primary key (person_key, kind, generation, revision)
);

insert into change (person_key, kind, generation, revision, act, op, at)
select person_key, kind, generation, 2, 'x', coalesce(cancel_op, '\x00000000000000000000000000000000'), cancelled_at
from course where state = 'x';

update course set revision = 2 where state = 'x';
alter table course drop column cancel_op;
