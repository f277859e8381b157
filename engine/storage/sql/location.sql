-- name: create_planned
create temp table if not exists planned_location (like location) on commit delete rows

-- name: insert_planned
insert into location select * from planned_location on conflict do nothing

-- name: all
select id, register_id, name, address, postcode, municipality, department, region, lat, lon, zone
from location order by id
