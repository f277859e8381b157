-- People whom the helpline told apart from a namesake of the same birth date, and why: written before the person is
-- registered, so that nobody is registered in this way without it.

create table homonym (
    op_key     bytea primary key,
    person_key uuid not null,
    agent      text not null,
    -- Sealed: it may say where somebody was born.
    reason     bytea not null,
    at         timestamptz not null default now()
);

create index homonym_person on homonym (person_key);
