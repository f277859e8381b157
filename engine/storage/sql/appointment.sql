-- name: audited
select uuid_send(person_key) as person, kind, generation, dose, session, slot, seat, live from appointment
