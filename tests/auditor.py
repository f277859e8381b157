"""An auditor that knows the rules of booking and nothing of Redis or Lua.

It is told what was asked and what was answered, in the order in which it happened, and says when an answer
breaks a rule. Afterwards its picture of the country must be the one in Redis.
"""

from collections import defaultdict

import msgspec

from engine.booking.book import Request
from engine.domain.course import Appointment, CourseId
from engine.inventory import codec
from tests.world import Location

MEMORIES_MAX = 4


class Held(msgspec.Struct):
    """A course as the auditor remembers it."""

    id: CourseId
    op: bytes
    appointments: tuple[Appointment, ...]
    live: bool = True


class Auditor:
    """Who holds which seat, and which op booked what."""

    def __init__(self, locations: tuple[Location, ...]) -> None:
        self.courses: dict[CourseId, Held] = {}
        self.free: dict[tuple[int, int], set[int]] = {
            (session, slot): set(range(location.lines))
            for location in locations
            for session in location.sessions
            for slot in range(location.slots)
        }

    def live_course(self, person: bytes) -> Held | None:
        """The person's one live course."""
        live = [held for held in self.courses.values() if held.live and held.id.person == person]
        assert len(live) <= 1, f"booked twice: {live}"
        return live[0] if live else None

    def by_op(self, person: bytes, op: bytes) -> Held | None:
        """The course that this op booked, if it is recent enough to be promised the old answer."""
        mine = sorted(
            (held for held in self.courses.values() if held.id.person == person),
            key=lambda held: held.id.generation,
        )
        return next((held for held in reversed(mine[-MEMORIES_MAX:]) if held.op == op), None)

    def is_full(self, request: Request) -> bool:
        """Whether any dose finds no seat."""
        return any(not self.free[wish.session, wish.slot] for wish in request.wishes)

    def booked(self, request: Request, course: CourseId, seats: tuple[int, ...]) -> None:
        """A booking was answered with these seats."""
        appointments = tuple(
            Appointment(wish.dose, wish.session, wish.slot, seat)
            for wish, seat in zip(request.wishes, seats, strict=True)
        )
        known = self.courses.get(course)
        if known is not None:
            assert (known.op, known.appointments) == (request.op.id, appointments), (
                "another answer than before"
            )
            return
        assert self.live_course(request.person) is None, "a second live course"
        for a in appointments:
            assert a.seat in self.free[a.session, a.slot], f"seat sold twice: {a}"
            self.free[a.session, a.slot].remove(a.seat)
        self.courses[course] = Held(course, request.op.id, appointments)

    def cancelled(self, course: CourseId) -> None:
        """A cancellation was answered."""
        held = self.courses[course]
        if held.live:
            held.live = False
            for a in held.appointments:
                self.free[a.session, a.slot].add(a.seat)

    def full(self, request: Request, dose: int) -> None:
        """A dose was refused as full."""
        wish = next(wish for wish in request.wishes if wish.dose == dose)
        assert not self.free[wish.session, wish.slot], f"refused, though free: {wish}"

    def told(self, record: bytes, request: Request, answer: bytes) -> None:
        """A ``book`` or ``take`` was executed with this answer, both as they were packed."""
        if answer[:1] == b"F":
            self.full(request, answer[1])
        if answer[:1] != b"B":
            return
        if record[:1] == b"b":
            (generation,) = codec.GENERATION.unpack_from(answer, 1)
            taken = codec.seats_of(answer[1 + codec.GENERATION.size :])
        else:
            generation, taken = codec.TAKE.unpack_from(record, 1)[2], codec.seats_of(answer[1:])
        self.booked(request, CourseId(request.person, request.kind, generation), taken)

    def masks(self) -> dict[int, dict[int, set[int]]]:
        """Session → slot → free seats."""
        sessions: defaultdict[int, dict[int, set[int]]] = defaultdict(dict)
        for (session, slot), seats in self.free.items():
            sessions[session][slot] = seats
        return sessions
