-- name: audited
-- Every course with its appointments as the audit compares them, packed as `codec.APPOINTMENT` would be read.
select uuid_send(person_key) as person, kind, generation, location, state::text as state, op from course

-- name: of_person
select kind, generation, location, state::text as state, booked_at, cancelled_at
from course where person_key = $1 order by kind, generation

-- name: count_live
select count(*) from course where state = 'b'
