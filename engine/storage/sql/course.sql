-- name: audited
select uuid_send(person_key), kind, generation, location, state::text, op from course

-- name: of_person
select kind, generation, location, state::text as state, booked_at, cancelled_at
from course where person_key = $1 order by kind, generation

-- name: count_live
select count(*) from course where state = 'b'

-- name: count
-- Every course that was ever booked, the cancelled ones too.
select count(*) from course
