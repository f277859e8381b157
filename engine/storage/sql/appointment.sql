-- name: audited
select uuid_send(person_key), kind, generation, dose, session, slot, seat, live from appointment
order by person_key, kind, generation, dose
