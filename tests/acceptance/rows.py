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
