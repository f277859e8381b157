-- name: register
-- $1 op key, $2 op digest, $3 person key, $4 sealed. Answers the digest and person of this op's registration,
-- whether made now or before, and whether it was made now. No row: a rival with the same op has not committed
-- yet when the statement began; ask once more.
with registered as (
    insert into registration (op_key, op_digest, person_key) values ($1, $2, $3)
    on conflict (op_key) do nothing
    returning op_digest, person_key
), written as (
    insert into person (person_key, sealed)
    select person_key, $4::bytea from registered
    on conflict (person_key) do nothing
)
select op_digest, person_key, true as now from registered
union all
select op_digest, person_key, false as now from registration
where op_key = $1 and not exists (select from registered)

-- name: sealed
select sealed from person where person_key = $1
