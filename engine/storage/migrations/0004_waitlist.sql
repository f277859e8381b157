-- The waitlist: who waits for a seat or for word of one, and the offers of freed seats.
--
-- No personal data: members are person keys and sealed facts. States are held here, so that no process, old
-- or new, can write one that the others do not know (engine/waitlist/README.md has the way through them).

-- Ids are the order of joining. shape: what is wanted, as the search reads it. vaccines empty: any. weekdays:
-- bit 0 is Monday.
create table waitlist_entry (
    id         bigint primary key generated always as identity,
    purpose    text not null check (purpose in ('seats', 'alert')),
    kind       smallint not null check (kind in (1, 2)),
    shape      text not null check (length(shape) <= 64),
    size       smallint not null check (size between 1 and 8),
    lat        double precision not null check (lat between -90 and 90),
    lon        double precision not null check (lon between -180 and 180),
    radius_km  double precision not null check (radius_km > 0),
    first_day  date not null,
    last_day   date not null check (last_day >= first_day),
    weekdays   smallint not null check (weekdays between 1 and 127),
    vaccines   text[] not null,
    state      text not null default 'waiting' check (state in ('waiting', 'offered', 'booked', 'left', 'expired')),
    op_key     bytea not null unique,
    op_digest  bytea not null,
    joined_at  timestamptz not null,
    closed_at  timestamptz,
    check ((state in ('waiting', 'offered')) = (closed_at is null)),
    check (purpose = 'seats' or state not in ('offered', 'booked'))
);

create index waitlist_entry_ending on waitlist_entry (last_day) where state = 'waiting';
create index waitlist_entry_closed on waitlist_entry (closed_at) where closed_at is not null;

create table waitlist_member (
    entry      bigint not null references waitlist_entry (id) on delete cascade,
    position   smallint not null check (position between 1 and 8),
    person_key uuid not null,
    sealed     bytea not null,
    primary key (entry, position),
    unique (person_key, entry)
);

-- The cells of the grid (engine/waitlist/grid.py) that an entry's circle touches, at most nine, as long as it
-- waits. In the order of joining within a cell: the line of a place is read from the front.
-- form stands for kind, shape and size. What the line is searched by is in the index itself: those who cannot
-- come that day are passed without being looked at.
create table waitlist_cell (
    cell      integer not null,
    entry     bigint not null references waitlist_entry (id) on delete cascade,
    form      bigint not null,
    first_day date not null,
    last_day  date not null,
    weekdays  smallint not null,
    primary key (cell, entry) include (form, first_day, last_day, weekdays)
);

create index waitlist_cell_entry on waitlist_cell (entry);

-- A lot: seats that one hold sets aside, and that are offered to several entries at once. session, slot: where
-- a seat came free. wishes: MessagePack, the doses of each member.
create table waitlist_lot (
    id         bigint primary key generated always as identity,
    offer_key  uuid not null unique,
    kind       smallint not null check (kind in (1, 2)),
    location   integer not null,
    session    integer not null,
    slot       integer not null,
    size       smallint not null check (size between 1 and 8),
    wishes     bytea not null,
    state      text not null default 'opening' check (state in ('opening', 'open', 'closing', 'closed')),
    hold_ms    integer not null check (hold_ms > 0),
    created_at timestamptz not null,
    deadline   timestamptz not null check (deadline > created_at),
    closed_at  timestamptz,
    check ((state = 'closed') = (closed_at is not null))
);

create index waitlist_lot_live on waitlist_lot (id) where state <> 'closed';
create index waitlist_lot_closed on waitlist_lot (closed_at) where closed_at is not null;

-- opened_at: from when on the entry was told; empty for an offer that never became open.
create table waitlist_offer (
    id         bigint primary key generated always as identity,
    lot        bigint not null references waitlist_lot (id) on delete cascade,
    entry      bigint not null references waitlist_entry (id) on delete cascade,
    session    integer not null,
    slot       integer not null,
    state      text not null default 'opening' check (state in (
        'opening', 'open', 'accepting', 'accepted', 'refused', 'expired', 'gone', 'withdrawn')),
    opened_at  timestamptz,
    decided_at timestamptz,
    accept_key text,
    unique (lot, entry),
    check (opened_at is not null or state in ('opening', 'withdrawn')),
    check ((state in ('opening', 'open')) = (decided_at is null)),
    check (state not in ('accepting', 'accepted') or accept_key is not null)
);

-- An entry has one offer at a time, and is offered a slot once; a lot has one taker.
create unique index waitlist_offer_one_live on waitlist_offer (entry)
    where state in ('opening', 'open', 'accepting');
create unique index waitlist_offer_once on waitlist_offer (entry, session, slot) where opened_at is not null;
create unique index waitlist_offer_one_taker on waitlist_offer (lot) where state = 'accepted';
create index waitlist_offer_entry on waitlist_offer (entry);

-- Whom the messages are for: one a day for each alert and location.
create table alert_told (
    entry    bigint not null references waitlist_entry (id) on delete cascade,
    location integer not null,
    day      date not null,
    session  integer not null,
    told_at  timestamptz not null,
    primary key (entry, location, day)
);

create index alert_told_at on alert_told (told_at);

-- One row. taken of decided offers, both fading with every decision (engine/waitlist/acceptance.py); entries:
-- how many were waiting when they were last counted.
create table waitlist_standing (
    only_row boolean primary key default true check (only_row),
    taken    double precision not null check (taken >= 0),
    decided  double precision not null check (decided > 0),
    entries  bigint not null default 0
);
