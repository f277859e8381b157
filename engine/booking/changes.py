"""What a person does with a course that has begun: look at it, confirm or prolong a hold, move doses, cancel.

Cut-offs and the limit on changes are rules of the campaign; they are asked before Redis hears of the wish. A
lost answer is ``ChangePending``: each of these is idempotent, so asking again with the same key resolves it.
Faults that reach the caller are those of ``desk``.
"""

import struct
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

import msgspec

from engine.booking.aside import Away
from engine.booking.cancel import cancel
from engine.booking.hold import Extension, confirm, extend
from engine.booking.move import Change, move
from engine.booking.office import Office, op_of, packed_course
from engine.booking.outcomes import Cancelled, Confirmed, Extended, Moved, Reason, Refused
from engine.booking.read import moved_before, read_course
from engine.booking.steps import Steps
from engine.domain.course import Course, CourseId, Kind, Op, Wish
from engine.domain.person import Facts
from engine.errors import OutcomeUnknown
from engine.rules import changes
from engine.rules.changes import Act
from engine.rules.courses import Dose, Person
from engine.rules.refusal import Refusal

_WISHED = struct.Struct("<BIH")
MOVED = "v"
T = TypeVar("T")


class ChangePending(msgspec.Struct, frozen=True):
    """The answer was lost. Ask again with the same key."""


class Place(msgspec.Struct, frozen=True):
    """A course and the location that knows it."""

    course: CourseId
    location: int


class ChangeDesk:
    """One process's desk for changes."""

    def __init__(self, office: Office) -> None:
        self._office = office

    async def read(self, place: Place) -> Course | None:
        """The course as its home has it now. Raises ``OutcomeUnknown`` where no answer came."""
        return await self._office.drive(read_course(place.course, place.location, self._office.placement))

    async def confirm(self, places: Sequence[Place], key: str) -> Confirmed | Refused | ChangePending:
        """Make holds final, all of them or none. They are at one location."""
        op = op_of(places[0].course.person, key, b"confirm", _packed(places))
        courses, location = [place.course for place in places], places[0].location
        return await self._ask(confirm(courses, location, op, self._office.placement))

    async def extend(self, places: Sequence[Place], key: str) -> Extended | Refused | ChangePending:
        """Let holds end later, all of them or none. They are at one location."""
        op = op_of(places[0].course.person, key, b"extend", _packed(places))
        courses, location = [place.course for place in places], places[0].location
        holds = self._office.rules.campaign.holds
        by = Extension(holds.ttl_seconds * 1000, holds.extensions_max)
        return await self._ask(extend(courses, location, op, by, self._office.placement))

    async def cancel(
        self, place: Place, key: str, doses: Collection[int] = ()
    ) -> Cancelled | Moved | Refused | Refusal | ChangePending:
        """Give a course up, or only these doses of it; with dose 1 every dose goes."""
        op = op_of(place.course.person, key, b"cancel", _packed([place]) + bytes(sorted(doses)))
        course = await self._read(place)
        if not isinstance(course, Course):
            return course
        current = self._office.doses_of(course)
        numbers = set(doses) or {dose.number for dose in current}
        gone = frozenset(changes.released(numbers, current))
        if course.state == "held" and len(gone) < len(current):
            return Refused(Reason.HELD)
        if course.state == "booked":
            refusal = self._check_cancel(course, current, numbers)
            if refusal is not None:
                return await self._moved_before(place, op, refusal)
        if course.state == "ended" and doses:
            before = await self._moved_before(place, op, Refused(Reason.UNKNOWN_COURSE))
            if not isinstance(before, Refused):
                return before
        if course.state != "booked" or len(gone) == len(current):
            return await self._ask(cancel(place.course, place.location, op, self._office.placement))
        return await self._ask(move(Change(course, op, gone), self._office.placement))

    async def move(
        self, place: Place, facts: Facts, wishes: Mapping[int, Wish], key: str
    ) -> Moved | Refused | Refusal | ChangePending:
        """Move doses to other slots, at any location; a dose that the course does not have is added."""
        canonical = b"".join(_WISHED.pack(dose, w.session, w.slot) for dose, w in sorted(wishes.items()))
        op = op_of(place.course.person, key, b"move", _packed([place]) + canonical)
        course = await self._read(place)
        if not isinstance(course, Course):
            return course
        if course.state == "held":
            return Refused(Reason.HELD)
        if course.state != "booked":
            return await self._moved_before(place, op, Refused(Reason.UNKNOWN_COURSE))
        moved = self._office.doses(wishes.values())
        if isinstance(moved, Refusal):
            return moved
        refusal = self._check_move(course, moved, facts)
        if refusal is not None:
            return await self._moved_before(place, op, refusal)
        held = {appointment.dose for appointment in course.appointments}
        to = tuple(
            Away(dose.session.location, wish) for dose, wish in zip(moved, wishes.values(), strict=True)
        )
        change = Change(course, op, frozenset(held & set(wishes)), to)
        return await self._ask(move(change, self._office.placement))

    def _check_cancel(
        self, course: Course, current: Sequence[Dose], numbers: Collection[int]
    ) -> Refusal | None:
        office = self._office
        changed = course.changes.count(MOVED)
        return changes.check(office.rules.campaign, Act.CANCEL, numbers, current, changed, office.now())

    def _check_move(self, course: Course, moved: Sequence[Dose], facts: Facts) -> Refusal | None:
        office, current = self._office, self._office.doses_of(course)
        person = Person(facts, office.given_of(course))
        today = office.today(course.location)
        changed, kind = course.changes.count(MOVED), Kind(course.id.kind)
        return changes.check_move(office.rules, kind, current, moved, person, changed, office.now(), today)

    async def _read(self, place: Place) -> Course | Refused | ChangePending:
        try:
            course = await self.read(place)
        except OutcomeUnknown:
            return ChangePending()
        return Refused(Reason.UNKNOWN_COURSE) if course is None else course

    async def _moved_before(
        self, place: Place, op: Op, refusal: Refused | Refusal
    ) -> Moved | Refused | Refusal | ChangePending:
        """A change that was allowed when this very op made it keeps its old answer."""
        found = await self._ask(moved_before(place.course, place.location, op, self._office.placement))
        if isinstance(found, Course):
            return Moved(found)
        return refusal if found is None else found

    async def _ask(self, steps: Steps[T]) -> T | ChangePending:
        try:
            return await self._office.drive(steps)
        except OutcomeUnknown:
            return ChangePending()


def _packed(places: Sequence[Place]) -> bytes:
    return b"".join(packed_course(place.course, place.location) for place in places)
