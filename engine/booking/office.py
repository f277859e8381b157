"""What the desks of one process share: sessions, rules, the clock, and the way to the partitions."""

import asyncio
import struct
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from engine.booking.drive import start
from engine.booking.pressure import Pressure
from engine.booking.steps import Placement, Steps
from engine.domain.capacity import Location, Session
from engine.domain.course import Course, CourseId, Op, Wish
from engine.domain.person import Given
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.rules.courses import Dose, Rules
from engine.rules.refusal import Refusal, Rule

_COURSE = struct.Struct("<16sBII")
_KEY_BYTES = 8
_EPOCH = date(1970, 1, 1)
T = TypeVar("T")


class Office:
    """Made once per process. ``now`` gives the aware instant."""

    def __init__(
        self,
        batcher: Batcher,
        keyspace: Keyspace,
        sessions: Mapping[int, Session],
        locations: Mapping[int, Location],
        rules: Rules,
        pressure: Pressure,
        now: Callable[[], datetime],
    ) -> None:
        self.batcher = batcher
        self.keyspace = keyspace
        self.placement = Placement(keyspace, batcher.clocks.not_after)
        self.sessions = sessions
        self.locations = locations
        self.rules = rules
        self.pressure = pressure
        self.now = now
        self._zones = {number: ZoneInfo(place.zone) for number, place in locations.items()}
        self._running: set[asyncio.Future[Any]] = set()

    def today(self, location: int) -> date:
        """The date there now."""
        return self.now().astimezone(self._zones[location]).date()

    def doses(self, wishes: Iterable[Wish]) -> tuple[Dose, ...] | Refusal:
        """What rules look at; a refusal where a session is not known."""
        doses = []
        for wish in wishes:
            session = self.sessions.get(wish.session)
            if session is None:
                return Refusal(Rule.UNKNOWN_SESSION, dose=wish.dose)
            area = self.locations[session.location].department
            doses.append(Dose(wish.dose, session, wish.slot, area))
        return tuple(doses)

    def doses_of(self, course: Course) -> tuple[Dose, ...]:
        """The doses of a course. Its sessions are known: what was booked was opened before."""
        found = self.doses(Wish(a.dose, a.session, a.slot) for a in course.appointments)
        return () if isinstance(found, Refusal) else found

    def pack_given(self, given: Given | None) -> tuple[int, int]:
        """The last dose given elsewhere as a course records it: the vaccine's number, days since 1970."""
        if given is None or (vaccine := self.rules.intervals.vaccines.get(given.vaccine)) is None:
            return 0, 0
        return vaccine.number, (given.day - _EPOCH).days

    def given_of(self, course: Course) -> Given | None:
        """What a course records of the last dose given elsewhere."""
        vaccine = self.rules.intervals.by_number.get(course.given_vaccine)
        return None if vaccine is None else Given(vaccine.code, _EPOCH + timedelta(days=course.given_day))

    def drive(self, steps: Steps[T]) -> "asyncio.Future[T]":
        """Begin a use case; it goes on even if nobody waits for it any more."""
        outcome = start(steps, self.batcher)
        self._running.add(outcome)
        outcome.add_done_callback(self._running.discard)
        return outcome

    def instant(self, until_ms: int) -> datetime:
        """A partition's time as an instant."""
        return datetime.fromtimestamp(until_ms / 1000, UTC)

    async def close(self) -> None:
        """Wait for what is under way."""
        await asyncio.gather(*self._running, return_exceptions=True)


def op_of(person: bytes, idempotency_key: str, act: bytes, canonical: bytes) -> Op:
    """The op of a write: what was asked, by whom, under which key."""
    key = sha256(person + idempotency_key.encode()).digest()[:_KEY_BYTES]
    return Op(key, sha256(act + b"\0" + person + canonical).digest()[:_KEY_BYTES])


def op_from(packed: bytes) -> Op:
    """An op from its 16 bytes."""
    return Op(packed[:_KEY_BYTES], packed[_KEY_BYTES:])


def packed_course(course: CourseId, location: int) -> bytes:
    """A course as part of what an op means."""
    return _COURSE.pack(course.person, course.kind, course.generation, location)
