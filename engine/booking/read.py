"""Reads a course as the partition has it now, before Postgres has heard of it.

A guard's answer says what became of an op whose outcome its caller never learned.
"""

from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Course, CourseId, Op
from engine.inventory import codec

_STATES = {b"b": "booked", b"h": "held", b"x": "ended"}


def read_course(course: CourseId, location: int, placement: Placement) -> Steps[Course | None]:
    """The course, or None where none ever began."""
    answer = yield Call(placement.keyspace.of_location(location), codec.read_course(course))
    if answer[:1] != b"V":
        return None
    until_ms, packed = codec.begun(answer[1:])
    record = codec.course(packed)
    if record.state not in _STATES:
        return None
    return Course(
        course,
        location,
        _STATES[record.state],
        record.appointments,
        record.revision,
        until_ms,
        record.given_vaccine,
        record.given_day,
        tuple(change.act.decode() for change in record.changes),
    )


def find_by_op(person: bytes, kind: int, op: Op, placement: Placement) -> Steps[Course | None]:
    """The course that this op booked, or None. Final once the op's deadline has passed."""
    answer = yield Call(placement.keyspace.of_person(person), codec.read_guard(person, kind))
    if answer[:1] != b"V":
        return None
    guard = codec.guard(answer[1:])
    if guard.state != b"f" and guard.op == op.id:
        return (yield from read_course(CourseId(person, kind, guard.generation), guard.location, placement))
    for memory in guard.memories:
        if memory.op == op.id:
            return (
                yield from read_course(CourseId(person, kind, memory.generation), memory.location, placement)
            )
    return None


def find_live(person: bytes, kind: int, placement: Placement) -> Steps[Course | None]:
    """The person's live course of this kind, held or booked; None where there is none."""
    answer = yield Call(placement.keyspace.of_person(person), codec.read_guard(person, kind))
    if answer[:1] != b"V":
        return None
    guard = codec.guard(answer[1:])
    if guard.state == b"f":
        return None
    course = yield from read_course(CourseId(person, kind, guard.generation), guard.location, placement)
    return course if course is not None and course.state != "ended" else None


def moved_before(course: CourseId, location: int, op: Op, placement: Placement) -> Steps[Course | None]:
    """The course as this op has moved it before; None where it has not. Revision 0 moves nothing."""
    home = placement.keyspace.of_location(location)
    answer = yield Call(home, codec.move(codec.Move(course, op, 0, 0, frozenset())))
    if answer[:1] != b"V":
        return None
    appointments = codec.appointments(answer[1 + codec.REVISION.size :])
    return Course(course, location, "booked", appointments)
