-- name: found
insert into deployment (partitions) values ($1) on conflict do nothing

-- name: partitions
select partitions from deployment
