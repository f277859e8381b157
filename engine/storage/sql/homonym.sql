-- name: insert
insert into homonym (op_key, person_key, agent, reason) values ($1, $2, $3, $4) on conflict (op_key) do nothing
