"""The records of Redis, made again from the rows of Postgres. Pure: no store is touched here.

A guard follows from its person's courses alone: booked if one is live, else free, with the generation of the
last one and the ops of the earlier ones. What Postgres never heard of (claims without a course, tombstones)
cannot be made again, and need not be: see ``rebuild.py``.
"""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import msgspec

from engine.domain import seats
from engine.domain.course import Appointment, CourseId
from engine.inventory import codec

BOOKED, FREE = b"b", b"f"


class Course(msgspec.Struct, frozen=True, gc=False):
    """A course as Postgres has it."""

    id: CourseId
    location: int
    record: codec.CourseRecord

    @property
    def is_live(self) -> bool:
        """Booked, not cancelled."""
        return self.record.state == BOOKED


def courses_of(rows: Iterable[Any]) -> list[Course]:
    """Courses of ``course.rebuilt``'s rows: one row per appointment, those of a course together."""
    return [_course(list(group)) for _, group in groupby(rows, key=_id)]


def _id(row: Any) -> tuple[bytes, int, int]:
    return row[0], row[1], row[2]


def _course(rows: list[Any]) -> Course:
    person, kind, generation, location, state, op, cancel_op = tuple(rows[0])[:7]
    appointments = tuple([Appointment(*tuple(row)[7:]) for row in rows if row["dose"] is not None])
    cancelled_by = b"" if state == "b" else cancel_op or codec.NO_OP
    record = codec.CourseRecord(state.encode(), op, appointments, cancelled_by)
    return Course(CourseId(person, kind, generation), location, record)


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


class Stocks:
    """The seats of the sessions that are rebuilt: those on sale, less what live courses hold."""

    def __init__(self) -> None:
        self._masks: dict[int, tuple[int, int, bytearray]] = {}

    def __len__(self) -> int:
        return len(self._masks)

    def add(self, session: int, partition: int, lines: int, on_sale: bytes) -> None:
        """A session, everything on sale free."""
        self._masks[session] = (partition, seats.width_of(lines), bytearray(on_sale))

    def take(self, course: Course) -> None:
        """A live course holds its seats; those of other partitions are not ours."""
        for appointment in course.record.appointments:
            if (stock := self._masks.get(appointment.session)) is not None:
                _, width, mask = stock
                seats.set_taken(mask, width, appointment.slot, appointment.seat)

    def values(self) -> Iterator[tuple[int, int, bytes]]:
        """``(partition, session, value of its key)``."""
        for session, (partition, width, mask) in self._masks.items():
            yield partition, session, codec.SESSION.pack(b"o", width) + mask
