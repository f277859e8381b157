-- The tables of the inventory, of persons and of courses.
--
-- Rows of course and appointment are written by the persister alone, in the order of the outboxes. The
-- partial unique indexes are the proof, independent of Redis, that no seat is sold twice and nobody has two
-- live courses. There are no foreign keys from them to person and session: the persister looks every one up
-- in the same transaction (sql/batch.sql) and quarantines what refers to nothing, where a foreign key would
-- abort the batch.

create table location (
    id           integer primary key check (id > 0),
    register_id  text not null unique,
    name         text not null,
    address      text not null,
    postcode     text not null,
    municipality text not null,
    department   text not null,
    region       text not null,
    lat          double precision not null,
    lon          double precision not null,
    zone         text not null
);

create table session (
    id           integer primary key generated always as identity,
    location     integer not null references location (id),
    vaccine      text not null,
    day          date not null,
    starts_at    timestamptz not null,
    slot_minutes integer not null check (slot_minutes > 0),
    slots        integer not null check (slots between 1 and 1440),
    lines        integer not null check (lines between 1 and 400),
    -- Seats on sale as opened: bit 1 = on sale, (lines + 7) / 8 bytes a slot (engine/domain/seats.py).
    seats        bytea not null check (length(seats) = slots * ((lines + 7) / 8)),
    unique (location, starts_at, vaccine)
);

create table person (
    person_key    uuid primary key,
    sealed        bytea not null,
    registered_at timestamptz not null default now()
);

create table registration (
    op_key     bytea primary key,
    op_digest  bytea not null,
    person_key uuid not null,
    at         timestamptz not null default now()
);

create table course (
    person_key   uuid not null,
    kind         smallint not null,
    generation   bigint not null,
    location     integer not null,
    state        "char" not null check (state in ('b', 'x')),
    booked_at    timestamptz not null,
    cancelled_at timestamptz,
    op           bytea not null,
    primary key (person_key, kind, generation),
    check ((state = 'x') = (cancelled_at is not null))
);

create unique index course_one_live on course (person_key, kind) where state = 'b';

create table appointment (
    person_key uuid not null,
    kind       smallint not null,
    generation bigint not null,
    dose       smallint not null,
    session    integer not null,
    slot       integer not null,
    seat       integer not null,
    live       boolean not null,
    primary key (person_key, kind, generation, dose)
);

create unique index appointment_one_live on appointment (session, slot, seat) where live;

-- One row: the partition count that places every location and person. Another count is another deployment.
create table deployment (
    only_row   boolean primary key default true check (only_row),
    partitions integer not null check (partitions between 1 and 100),
    founded_at timestamptz not null default now()
);

-- watermark: sequence of the last event that is committed here, -1 for none. founded: Redis had the partition
-- once, so that a Redis without it has lost it.
create table partition (
    partition integer primary key check (partition >= 0),
    epoch     bigint not null,
    watermark bigint not null default -1,
    founded   boolean not null default false
);

create table quarantine (
    partition integer not null,
    epoch     bigint not null,
    sequence  bigint not null,
    reason    text not null,
    payload   bytea not null,
    at        timestamptz not null default now(),
    primary key (partition, epoch, sequence)
);
