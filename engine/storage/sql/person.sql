-- name: register
-- $1 op keys, all different, $2 op digests, $3 person keys, $4 sealed. Answers the op keys that were registered
-- now. Both inserts go in the order of their keys, so that two batches wait for each other and never deadlock.
with asked as (
    select * from unnest($1::bytea[], $2::bytea[], $3::uuid[], $4::bytea[])
        as asked (op_key, op_digest, person_key, sealed)
), registered as (
    insert into registration (op_key, op_digest, person_key)
    select op_key, op_digest, person_key from asked order by op_key
    on conflict (op_key) do nothing
    returning op_key
), written as (
    insert into person (person_key, sealed)
    select distinct on (person_key) person_key, sealed
    from asked join registered using (op_key) order by person_key
    on conflict (person_key) do nothing
)
select op_key from registered

-- name: registrations
-- A statement of its own: it sees what a rival committed while `register` waited for it.
select op_key, op_digest, person_key from registration where op_key = any($1::bytea[])

-- name: sealed
select sealed from person where person_key = $1
