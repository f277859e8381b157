"""The locations and sessions of Postgres in memory, for answering without a query.

Read once at the start of a process and then never changed; sessions that are opened later need a new one.
Days, instants and vaccines that many sessions share are one object each, so a session costs some 150 bytes.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from engine.domain.capacity import Location, Session
from engine.storage.queries import query


class Catalogue:
    """Locations and sessions by id, and the sessions of a location and vaccine in the order of their days."""

    def __init__(self, locations: Iterable[Location], sessions: Iterable[Session]) -> None:
        self._locations = {location.id: location for location in locations}
        self._sessions = {session.id: session for session in sessions}
        found: defaultdict[tuple[int, str], list[Session]] = defaultdict(list)
        for session in sorted(self._sessions.values(), key=lambda session: session.starts_at):
            found[session.location, session.vaccine].append(session)
        self._of_place = {place: tuple(sessions) for place, sessions in found.items()}

    @classmethod
    async def load(cls, pool: Any) -> "Catalogue":
        """Read everything."""
        locations = await pool.fetch(query("location.all"))
        sessions = await pool.fetch(query("session.all"))
        return cls((Location(*row) for row in locations), _sessions(sessions))

    @property
    def locations(self) -> Mapping[int, Location]:
        """Every location by id."""
        return self._locations

    @property
    def sessions(self) -> Mapping[int, Session]:
        """Every session by id."""
        return self._sessions

    def location(self, location: int) -> Location | None:
        """The location, or None where there is none."""
        return self._locations.get(location)

    def session(self, session: int) -> Session | None:
        """The session, or None where there is none."""
        return self._sessions.get(session)

    def sessions_of(self, location: int, vaccine: str) -> tuple[Session, ...]:
        """The sessions of a location and vaccine, earliest first."""
        return self._of_place.get((location, vaccine), ())


def _sessions(rows: Iterable[Any]) -> Iterable[Session]:
    shared: dict[Any, Any] = {}
    for number, location, vaccine, day, starts_at, slot_minutes, slots, lines in rows:
        yield Session(
            number,
            location,
            shared.setdefault(vaccine, vaccine),
            shared.setdefault(("day", day), day),
            shared.setdefault(starts_at, starts_at),
            slot_minutes,
            slots,
            lines,
        )
