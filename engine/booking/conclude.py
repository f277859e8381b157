"""Decides what became of an op whose deadline has passed: booked, or never.

Where the op has claimed its guard and its take was lost, a tombstone is written and the guard given back.
Until the deadline an earlier copy of the claim may still be on its way, so this is not to be asked before.
"""

from engine.booking.read import find_by_op
from engine.booking.resolve import resolve
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Course, Op
from engine.inventory import codec


def conclude(person: bytes, kind: int, op: Op, placement: Placement) -> Steps[Course | None]:
    """The course that the op booked, or None for ever."""
    course = yield from find_by_op(person, kind, op, placement)
    if course is not None:
        return course
    guard_at = placement.keyspace.of_person(person)
    answer = yield Call(guard_at, codec.read_guard(person, kind))
    if answer[:1] != b"V":
        return None
    guard = codec.guard(answer[1:])
    if guard.state not in codec.CLAIMED or guard.op != op.id:
        return None
    yield from resolve(person, kind, codec.Live(b"c", guard.generation, guard.location), placement)
    return (yield from find_by_op(person, kind, op, placement))
