"""Folds a batch of events: a course that was held, moved and cancelled in it is written once, as it ended.

Folding must not hide a broken proof, so events are gone through in their order, and one that takes a seat
while it is held, or changes a course that is not live, is broken, even if the batch ends well. What the batch
cannot know (rows committed before) is proved by ``sql/batch.sql`` in the same transaction; the batch is then
folded anew without what broke a proof there, so that whatever followed from it is broken too.

Two parties tell of a seat: its partition, that it is taken and released; the course's home, that the course
counts it (joined) and counts it no more (left). At home one entry tells both.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import takewhile
from typing import NamedTuple

from engine.domain.course import HERE, Appointment, CourseId
from engine.inventory import codec
from engine.inventory.codec import BEGINS, ENDS, JOINED, LEFT, LIVE_STATES, RELEASED, TAKEN
from engine.outbox.feed import Entry

# The year 2200: a later event, or one before the epoch, is not one of ours.
MS_END = 7_258_118_400_000
# Which verbs an event may have, and from which states of its course it follows; parts follow from none.
VERBS = {
    b"b": {TAKEN, JOINED},
    b"h": {TAKEN, JOINED},
    b"c": set[bytes](),
    b"w": set[bytes](),
    b"v": {TAKEN, RELEASED, JOINED, LEFT},
    b"x": {RELEASED, LEFT},
    b"e": {RELEASED, LEFT},
    b"a": {TAKEN},
    b"r": {RELEASED},
}
FOLLOWS = {b"c": (b"h",), b"w": (b"h",), b"e": (b"h",), b"v": (b"b",), b"x": LIVE_STATES}
# What a course is after an event.
STATES = {b"b": b"b", b"h": b"h", b"c": b"b", b"w": b"h", b"v": b"b", b"x": b"x", b"e": b"x"}
PARTS = (b"a", b"r")
# What is told of seats at home, and of seats that come to a course.
HERE_VERBS, COME_VERBS = (TAKEN, RELEASED), (TAKEN, JOINED)
TAKES = (*BEGINS, b"a")

Spot = tuple[int, int, int]


class Broken(StrEnum):
    """The proof that an event broke: the ``reason`` of its row in quarantine."""

    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    COURSE_REPEATED = "course-repeated"
    COURSE_NOT_LIVE = "course-not-live"
    REVISION_REPEATED = "revision-repeated"
    HALF_ENDED = "half-ended"
    UNREGISTERED_PERSON = "unregistered-person"
    UNKNOWN_SESSION = "unknown-session"
    SEAT_NOT_ON_SALE = "seat-not-on-sale"
    SEAT_TAKEN = "seat-taken"
    SEAT_NOT_LIVE = "seat-not-live"
    PART_REPEATED = "part-repeated"
    PERSON_LIVE = "person-live"


class SeatKey(NamedTuple):
    """The key of an appointment's row. ``place``: ``HERE`` at the course's home, else its partition."""

    course: CourseId
    dose: int
    revision: int
    place: int


class Course:
    """A course as the batch leaves it.

    ``first``: its first event here, which begins it or follows from a committed row. ``seats``: how many of
    those that it came to in this batch it still has.
    """

    __slots__ = ("end_number", "ended_ms", "first", "number", "revision", "seats", "state", "until_ms")

    def __init__(self, number: int, first: codec.Event) -> None:
        self.number = number
        self.first = first
        self.seats = 0
        self.ended_ms = 0
        self.end_number = -1
        self.follow(number, first)

    def follow(self, number: int, event: codec.Event) -> None:
        """The course after one more event."""
        self.state = STATES[event.type]
        self.revision = event.revision
        self.until_ms = event.until_ms if self.state == b"h" else 0
        if event.type in ENDS:
            self.ended_ms, self.end_number = event.at_ms, number


class Taking:
    """A seat taken in this batch.

    ``ended_ms``: when it was released, 0 while it is live, -1 if a later taking writes its row.
    ``left_revision``: the course's that gave it up, 0 for none.
    """

    __slots__ = ("appointment", "ended_ms", "key", "left_revision", "number")

    def __init__(self, number: int, key: SeatKey, appointment: Appointment) -> None:
        self.number = number
        self.key = key
        self.appointment = appointment
        self.ended_ms = 0
        self.left_revision = 0


class Joining:
    """A seat elsewhere that a course came to count in this batch, and perhaps counts no more."""

    __slots__ = ("appointment", "left_revision", "number")

    def __init__(self, number: int, appointment: Appointment) -> None:
        self.number = number
        self.appointment = appointment
        self.left_revision = 0


class Release(NamedTuple):
    """A seat of an earlier batch, released. ``left_revision``: 0 for a part, of which the home tells."""

    number: int
    appointment: Appointment
    ended_ms: int
    left_revision: int


class Leaving(NamedTuple):
    """A seat elsewhere, joined in an earlier batch, that the course counts no more."""

    number: int
    left_revision: int


class Fold:
    """A folded batch. An event's number is its index in ``entries``; each partition's are in their order.

    ``rejected``: events that broke a proof of the tables. They are broken, and count for nothing here.
    """

    def __init__(
        self, entries: Mapping[int, Iterable[Entry]], rejected: Mapping[int, Broken] | None = None
    ) -> None:
        self.entries: list[Entry] = [entry for partition in sorted(entries) for entry in entries[partition]]
        self.events: list[codec.Event | None] = [event_of(entry) for entry in self.entries]
        self.rejected: dict[int, Broken] = dict(rejected or {})
        self._fold()

    def reject(self, rejected: Mapping[int, Broken]) -> None:
        """Fold anew without these events."""
        self.rejected |= rejected
        self._fold()

    def _fold(self) -> None:
        self.broken: dict[int, Broken] = dict(self.rejected)
        self.courses: dict[CourseId, Course] = {}
        self.changes: list[tuple[int, codec.Event]] = []
        self.asides: list[tuple[int, codec.Event]] = []
        self.takings: dict[SeatKey, Taking] = {}
        self.superseded: list[Taking] = []
        self.releases: dict[SeatKey, Release] = {}
        self.joinings: dict[SeatKey, Joining] = {}
        self.leavings: dict[SeatKey, Leaving] = {}
        self._spots: set[Spot] = set()
        self._persons: set[tuple[int, bytes, int]] = set()
        for number, event in enumerate(self.events):
            if number not in self.rejected and (broken := self._add(number, event)):
                self.broken[number] = broken
        self._compare_partitions()

    def begun(self) -> list[Course]:
        """The courses that begin in this batch."""
        return [course for course in self.courses.values() if course.first.type in BEGINS]

    def continued(self) -> list[Course]:
        """The courses of earlier batches that change in this one."""
        return [course for course in self.courses.values() if course.first.type not in BEGINS]

    def _add(self, number: int, event: codec.Event | None) -> Broken | None:
        if event is None:
            return Broken.UNREADABLE
        if not _is_well_formed(event):
            return Broken.MALFORMED
        if event.type in PARTS:
            return self._part(number, event)
        if event.type in BEGINS:
            return self._begin(number, event)
        return self._change(number, event)

    # Courses ------------------------------------------------------------------------------------------------

    def _begin(self, number: int, event: codec.Event) -> Broken | None:
        person = self._person(number, event)
        if event.course in self.courses:
            return Broken.COURSE_REPEATED
        if self._is_taken(event):
            return Broken.SEAT_TAKEN
        if person in self._persons:
            return Broken.PERSON_LIVE
        course = self.courses[event.course] = Course(number, event)
        self._persons.add(person)
        self._come(number, event, course)
        return None

    def _change(self, number: int, event: codec.Event) -> Broken | None:
        course = self.courses.get(event.course)
        if broken := self._broken_change(event, course):
            return broken
        if course is None:
            course = self.courses[event.course] = Course(number, event)
        course.follow(number, event)
        self.changes.append((number, event))
        self._come(number, event, course)
        self._go(number, event, course)
        if event.type in ENDS:
            self._persons.discard(self._person(number, event))
        return None

    def _broken_change(self, event: codec.Event, course: Course | None) -> Broken | None:
        if course is not None and course.state not in FOLLOWS[event.type]:
            return Broken.COURSE_NOT_LIVE
        if course is not None and course.revision >= event.revision:
            return Broken.REVISION_REPEATED
        if self._is_taken(event):
            return Broken.SEAT_TAKEN
        if not self._may_go(event):
            return Broken.SEAT_NOT_LIVE
        if event.type in ENDS and course is not None and self._known(event) != course.seats:
            return Broken.HALF_ENDED
        return None

    def _part(self, number: int, event: codec.Event) -> Broken | None:
        place = self.entries[number].partition
        if event.type == b"a":
            if any(self._is_live(_key(event, entry, place)) for entry in event.entries):
                return Broken.PART_REPEATED
            if self._is_taken(event):
                return Broken.SEAT_TAKEN
        elif not all(self._may_release(_key(event, e, place), e.appointment) for e in event.entries):
            return Broken.SEAT_NOT_LIVE
        if event.type == b"a":
            self.asides.append((number, event))
        for entry in event.entries:
            if entry.verb == TAKEN:
                self._take(number, _key(event, entry, place), entry.appointment)
            else:
                self._release(number, _key(event, entry, place), entry.appointment, event.at_ms, 0)
        return None

    def _person(self, number: int, event: codec.Event) -> tuple[int, bytes, int]:
        return self.entries[number].partition, event.course.person, event.course.kind

    def _compare_partitions(self) -> None:
        """One person live in two partitions: the later generation breaks the proof."""
        live: defaultdict[tuple[bytes, int], list[Course]] = defaultdict(list)
        for course in self.begun():
            if not course.ended_ms:
                live[course.first.course.person, course.first.course.kind].append(course)
        rivals = {
            course.number: Broken.PERSON_LIVE
            for courses in live.values()
            if len(courses) > 1
            for course in sorted(courses, key=lambda course: course.first.course.generation)[1:]
        }
        if rivals:
            self.reject(rivals)

    # Seats --------------------------------------------------------------------------------------------------

    def _is_taken(self, event: codec.Event) -> bool:
        return any(entry.verb == TAKEN and _spot(entry.appointment) in self._spots for entry in event.entries)

    def _is_live(self, key: SeatKey) -> bool:
        taking = self.takings.get(key)
        return taking is not None and not taking.ended_ms

    def _may_go(self, event: codec.Event) -> bool:
        """Whether the course has what it gives up, as far as this batch knows."""
        for entry in event.entries:
            seat = entry.appointment
            if entry.verb == RELEASED and not self._may_release(_key(event, entry, HERE), seat):
                return False
            if entry.verb == LEFT and not self._may_leave(_key(event, entry, seat.where)):
                return False
        return True

    def _may_release(self, key: SeatKey, seat: Appointment) -> bool:
        taking = self.takings.get(key)
        if taking is None:
            return key not in self.releases
        return not taking.ended_ms and _spot(taking.appointment) == _spot(seat)

    def _may_leave(self, key: SeatKey) -> bool:
        joining = self.joinings.get(key)
        return key not in self.leavings if joining is None else not joining.left_revision

    def _known(self, event: codec.Event) -> int:
        """How many of the seats that the course gives up it came to in this batch."""
        released = sum(_key(event, e, HERE) in self.takings for e in event.entries if e.verb == RELEASED)
        left = (e for e in event.entries if e.verb == LEFT)
        return released + sum(_key(event, e, e.appointment.where) in self.joinings for e in left)

    def _come(self, number: int, event: codec.Event, course: Course) -> None:
        for entry in event.entries:
            seat = entry.appointment
            if entry.verb == TAKEN:
                self._take(number, _key(event, entry, HERE), seat)
                course.seats += 1
            elif entry.verb == JOINED:
                self.joinings[_key(event, entry, seat.where)] = Joining(number, seat)
                course.seats += 1

    def _go(self, number: int, event: codec.Event, course: Course) -> None:
        course.seats -= self._known(event)
        for entry in event.entries:
            seat = entry.appointment
            if entry.verb == RELEASED:
                self._release(number, _key(event, entry, HERE), seat, event.at_ms, event.revision)
            elif entry.verb == LEFT:
                self._leave(number, _key(event, entry, seat.where), event.revision)

    def _take(self, number: int, key: SeatKey, seat: Appointment) -> None:
        before = self.takings.get(key)
        if before is not None:
            before.ended_ms = -1
            self.superseded.append(before)
        self.takings[key] = Taking(number, key, seat)
        self._spots.add(_spot(seat))

    def _release(self, number: int, key: SeatKey, seat: Appointment, at_ms: int, left_revision: int) -> None:
        taking = self.takings.get(key)
        if taking is None:
            self.releases[key] = Release(number, seat, at_ms, left_revision)
        else:
            taking.ended_ms, taking.left_revision = at_ms, left_revision
            self._spots.discard(_spot(seat))

    def _leave(self, number: int, key: SeatKey, revision: int) -> None:
        joining = self.joinings.get(key)
        if joining is None:
            self.leavings[key] = Leaving(number, revision)
        else:
            joining.left_revision = revision


def _key(event: codec.Event, entry: codec.Entry, place: int) -> SeatKey:
    seat = entry.appointment
    return SeatKey(event.course, seat.dose, seat.revision, place)


def _spot(seat: Appointment) -> Spot:
    return seat.session, seat.slot, seat.seat


def _is_well_formed(event: codec.Event) -> bool:
    """Whether a script can have told this. A move may tell of no seat: where a dose was given up before."""
    kind, entries = event.type, event.entries
    if (kind == b"h" or kind == b"w") != (0 < event.until_ms < MS_END):
        return False
    if not entries:
        return kind == b"v" or not VERBS[kind]
    return _are_well_formed(event) and (kind not in TAKES or any(entry.verb == TAKEN for entry in entries))


def _are_well_formed(event: codec.Event) -> bool:
    """Each dose comes once, with the event's revision; each seat is told of once, and where it is."""
    verbs, is_part = VERBS[event.type], event.type in PARTS
    spots, doses = set(), set()
    for entry in event.entries:
        verb, seat = entry.verb, entry.appointment
        if verb not in verbs or not (is_part or (verb in HERE_VERBS) == (seat.where == HERE)):
            return False
        if verb in COME_VERBS:
            if seat.revision != event.revision or seat.dose in doses:
                return False
            doses.add(seat.dose)
        spots.add(_spot(seat))
    return len(spots) == len(event.entries)


def without(entries: Mapping[int, list[Entry]], first: Iterable[Entry]) -> dict[int, list[Entry]]:
    """The batch without these entries and what follows them in their partitions."""
    cuts: dict[int, int] = {}
    for entry in first:
        cuts[entry.partition] = min(entry.sequence, cuts.get(entry.partition, entry.sequence))
    kept = {
        partition: [entry for entry in items if partition not in cuts or entry.sequence < cuts[partition]]
        for partition, items in entries.items()
    }
    return {partition: items for partition, items in kept.items() if items}


def not_younger(entries: Mapping[int, list[Entry]], cut: Iterable[int]) -> dict[int, list[Entry]]:
    """The batch up to where the earliest of the cut partitions was cut, by the partitions' clocks.

    On one server all partitions have one clock, so this is a consistent cut. It never is empty: the earliest
    cut partition keeps all that was read of it.
    """
    ends = {partition: _at_ms(entries[partition][-1]) for partition in cut}
    if not ends:
        return dict(entries)
    horizon = min(ends.values())
    kept = {
        partition: items
        if ends.get(partition) == horizon
        else list(takewhile(lambda entry: _at_ms(entry) < horizon, items))
        for partition, items in entries.items()
    }
    return {partition: items for partition, items in kept.items() if items}


def _at_ms(entry: Entry) -> int:
    """When it happened; 0 for what cannot be read, which waits for nobody."""
    event = event_of(entry)
    return 0 if event is None else event.at_ms


def event_of(entry: Entry) -> codec.Event | None:
    """The event of an entry; None for what cannot be read, and for what no script tells."""
    try:
        event = codec.event(entry.payload)
    except ValueError:
        return None
    return event if event.type in VERBS and 0 < event.at_ms < MS_END else None
