"""What a booking left in Postgres."""

from typing import Any
from uuid import UUID

from engine.privacy.references import BookingRef, References
from engine.privacy.secrets import open_secrets
from tests.campaign import Service
from tests.servers.processes import wait_until

SQL = """
select a.dose, a.session, a.slot, a.seat, a.live, c.state::text as state, c.location
from appointment a join course c using (person_key, kind, generation)
where person_key = $1 and kind = $2 and generation = $3 order by a.dose
"""

STATE = "select state::text from course where person_key = $1 and kind = $2 and generation = $3"
LIVE = """
select dose, session, slot, seat from appointment
where live and joined and person_key = $1 and kind = $2 and generation = $3 order by dose
"""


def booking_ref(service: Service, reference: str) -> BookingRef:
    """What the reference says."""
    ref = References(open_secrets(service.settings.secrets_dir).reference_key).booking(reference)
    assert ref is not None
    return ref


def wait_for_rows(service: Service, reference: str, *, live: bool) -> list[Any]:
    """The two appointments of a booking, once the persister has brought them into that state."""
    ref = booking_ref(service, reference)
    key = (UUID(bytes=ref.person), ref.kind, ref.generation)
    found: list[Any] = []

    def are_there() -> bool:
        found[:] = service.rows(SQL, *key)
        return [row["live"] for row in found] == [live, live]

    wait_until(are_there, "the rows are in Postgres")
    return found


def appointments_of(body: dict[str, Any]) -> list[tuple[int, int, int, int]]:
    """The appointments of an answer as the rows have them."""
    return [(a["dose"], a["session"], a["slot"], a["seat"]) for a in body["appointments"]]


def wait_for_state(service: Service, body: dict[str, Any], state: str = "b") -> None:
    """Wait until Postgres has the course in this state with the answer's seats; with none if it has ended."""
    ref = booking_ref(service, body["booking"])
    key = (UUID(bytes=ref.person), ref.kind, ref.generation)
    expected = [] if state == "x" else appointments_of(body)
    found: list[Any] = []

    def is_there() -> bool:
        states = service.rows(STATE, *key)
        found[:] = [[row["state"] for row in states], [tuple(row) for row in service.rows(LIVE, *key)]]
        return found == [[state], expected]

    wait_until(is_there, f"Postgres has {state} {expected}")


def count_live(service: Service, *persons: bytes) -> int:
    """Seats that these people have in Postgres, of all their courses."""
    sql = "select count(*) from appointment where live and person_key = any($1::uuid[])"
    return int(service.rows(sql, [UUID(bytes=person) for person in persons])[0][0])


def person_key_of(service: Service, reference: str) -> bytes:
    """Who the reference stands for."""
    ref = References(open_secrets(service.settings.secrets_dir).reference_key).person(reference)
    assert ref is not None
    return ref.person
