"""The records of Redis, made again from the rows of Postgres. Pure: no store is touched here.

A guard follows from its person's courses alone: booked if one is live, else free, with the generation of the
last one and the ops of the earlier ones. A part follows from its seat's row: kept if its course counts it,
else in doubt while it has the seat, since only the course's home may decide. What Postgres never heard of
(claims without a course, tombstones) cannot be made again, and need not be: see ``rebuild.py``.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import msgspec

from engine.domain import seats
from engine.domain.course import HERE, Appointment, CourseId
from engine.inventory import codec

BOOKED, FREE = b"b", b"f"
HELD = b"h"
SET_ASIDE, KEPT = b"s", b"b"
CourseKey = tuple[bytes, int, int]


class Seat(msgspec.Struct, frozen=True, gc=False):
    """A row of ``appointment``. ``is_live``: the seat's partition says that it is taken."""

    appointment: Appointment
    is_live: bool
    joined: bool
    left_revision: int | None

    def is_counted_at(self, revision: int) -> bool:
        """Whether the course counts the seat, in this revision of it."""
        return (
            self.joined
            and self.appointment.revision <= revision
            and (self.left_revision is None or self.left_revision > revision)
        )


class Course(msgspec.Struct, frozen=True, gc=False):
    """A course as Postgres has it, and all seats that it ever had. ``until_ms``: when a hold ends, else 0."""

    id: CourseId
    location: int
    record: codec.CourseRecord
    until_ms: int
    seats: tuple[Seat, ...]

    @property
    def is_live(self) -> bool:
        """Booked or held, not ended."""
        return self.record.state in codec.LIVE_STATES

    @property
    def counted(self) -> tuple[Appointment, ...]:
        """The seats that the course has now."""
        return self.record.appointments if self.is_live else ()

    @property
    def taken_here(self) -> set[Appointment]:
        """Those seats in its home that are nobody else's."""
        live = {seat.appointment for seat in self.seats if seat.is_live}
        return {one for one in live.union(self.counted) if one.where == HERE}

    @property
    def given_back(self) -> Iterator[Appointment]:
        """Those away that it counts no more, though their partition has not told that they are free."""
        for seat in self.seats:
            is_away = seat.appointment.where != HERE and seat.is_live
            if is_away and seat.joined and seat.appointment not in self.counted:
                yield seat.appointment


class Write(msgspec.Struct, frozen=True, gc=False):
    """A row of ``change``."""

    revision: int
    act: bytes
    op: bytes


def courses_of(rows: Iterable[Any], writes: Mapping[CourseKey, Sequence[Write]]) -> list[Course]:
    """Courses of ``course.rebuilt``'s rows: one row per appointment, those of a course together.

    ``writes`` are the changes of those that have any, newest first.
    """
    return [_course(list(group), writes.get(key, ())) for key, group in groupby(rows, key=key_of)]


def key_of(row: Any) -> CourseKey:
    """The course that a row belongs to."""
    return row[0], row[1], row[2]


def writes_of(rows: Iterable[Any]) -> dict[CourseKey, list[Write]]:
    """The rows of ``change.of_persons``, by course."""
    return {
        key: [Write(row[3], row[4].encode(), row[5]) for row in group]
        for key, group in groupby(rows, key=key_of)
    }


def _course(rows: list[Any], writes: Sequence[Write]) -> Course:
    person, kind, generation, location, state, op, revision, until_ms, vaccine, day = tuple(rows[0])[:10]
    seats_had = tuple([_seat(*tuple(row)[10:]) for row in rows if row["dose"] is not None])
    # An ended course keeps what it had when it ended.
    last = revision if state.encode() in codec.LIVE_STATES else revision - 1
    record = codec.CourseRecord(
        state.encode(), op, _counted(seats_had, last), revision, vaccine, day, _changes(op, seats_had, writes)
    )
    return Course(CourseId(person, kind, generation), location, record, until_ms, seats_had)


def _seat(
    dose: int, session: int, slot: int, seat: int, revision: int, place: int,
    is_live: bool, joined: bool, left_revision: int | None,
) -> Seat:  # fmt: skip
    return Seat(Appointment(dose, session, slot, seat, revision, place), is_live, joined, left_revision)


def _counted(seats_had: Iterable[Seat], revision: int) -> tuple[Appointment, ...]:
    return tuple([seat.appointment for seat in seats_had if seat.is_counted_at(revision)])


def _changes(op: bytes, seats_had: Sequence[Seat], writes: Sequence[Write]) -> tuple[codec.Change, ...]:
    """What the scripts remember: of a move what it left, and then what was begun; nothing of an expiry."""
    changes = [
        codec.Change(
            write.op,
            write.act,
            write.revision,
            _counted(seats_had, write.revision) if write.act == b"v" else (),
        )
        for write in writes
        if write.op != codec.NO_OP
    ]
    if any(change.act == b"v" for change in changes):
        changes.append(codec.Change(op, b"b", 1, _counted(seats_had, 1)))
    return tuple(changes[: codec.CHANGES_MAX])


def guards_of(courses: Iterable[Course]) -> Iterator[tuple[bytes, int, codec.Guard]]:
    """``(person, kind, guard)`` of the persons of these courses, which are in the order of generations."""
    for (person, kind), group in groupby(courses, key=lambda course: (course.id.person, course.id.kind)):
        yield person, kind, _guard(list(group))


def _guard(courses: list[Course]) -> codec.Guard:
    last = courses[-1]
    live = last if last.is_live else None
    earlier = courses[:-1] if live else courses
    memories = tuple(
        codec.Memory(course.record.op, course.id.generation, course.location)
        for course in earlier[: -codec.MEMORIES_MAX - 1 : -1]
    )
    if live is None:
        return codec.Guard(FREE, last.id.generation, 0, codec.NO_OP, memories)
    return codec.Guard(BOOKED, live.id.generation, live.location, live.record.op, memories)


class OwnPart(msgspec.Struct, frozen=True, gc=False):
    """A part in its seat's partition. ``home`` as that partition told, ``location`` its course's, or None."""

    id: codec.PartId
    place: int
    seat: Appointment
    home: int | None
    op: bytes | None
    location: int | None
    is_counted: bool


def part_of(row: Any) -> OwnPart:
    """The part of a row of ``appointment.parts``."""
    person, kind, generation, dose, revision, place, session, slot, seat, home, op, location, counted = row
    identity = codec.PartId(CourseId(person, kind, generation), dose, revision)
    appointment = Appointment(dose, session, slot, seat, revision, place)
    return OwnPart(identity, place, appointment, home, op, location, counted)


def part_record(part: OwnPart, home: int) -> codec.Part:
    """Its record: kept if its course counts it, else its home is still to be asked."""
    seat = part.seat
    state = KEPT if part.is_counted else SET_ASIDE
    return codec.Part(state, home, part.op or codec.NO_OP, seat.session, seat.slot, seat.seat)


class Stocks:
    """The seats of the sessions that are rebuilt: those on sale, less those that are taken."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[int, int, bytearray]] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, session: int, partition: int, lines: int, on_sale: bytes) -> None:
        """A session, everything on sale free."""
        self._masks[session] = (partition, seats.width_of(lines), bytearray(on_sale))

    def take(self, appointments: Iterable[Appointment]) -> None:
        """These seats are somebody's; those of other partitions are not ours."""
        for appointment in appointments:
            if (stock := self._masks.get(appointment.session)) is not None:
                _, width, mask = stock
                seats.set_taken(mask, width, appointment.slot, appointment.seat)

    def values(self) -> Iterator[tuple[int, int, bytes]]:
        """``(partition, session, value of its key)``."""
        for session, (partition, width, mask) in self._masks.items():
            yield partition, session, codec.SESSION.pack(b"o", width) + mask
