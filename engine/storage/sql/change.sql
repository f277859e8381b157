-- name: of_persons
-- What was written to courses after they began, newest first. An end by time has no op, but zeros.
select uuid_send(person_key), kind, generation, revision, act::text, op
from change
where person_key = any($1::uuid[])
order by person_key, kind, generation, revision desc
