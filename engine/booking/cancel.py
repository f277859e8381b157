"""Cancels a course: both its seats are released in one operation, whose event frees the guard.

Commit point: ``cancel`` in the location's partition. If the process dies after it, the outbox consumer frees
the guard; a claim that comes earlier resolves it.
"""

from engine.booking.outcomes import Cancelled, CancelOutcome, Reason, Refused
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Course, CourseId, Op
from engine.inventory import codec


def cancel(course: CourseId, location: int, op: Op, placement: Placement) -> Steps[CancelOutcome]:
    """Steps of a cancellation: one call."""
    seats = placement.keyspace.of_location(location)
    guard_here = placement.keyspace.of_person(course.person) == seats
    answer = yield Call(seats, codec.cancel(course, op, guard_here=guard_here))
    if answer[:1] == b"X":
        return Cancelled(Course(course, location, "cancelled", codec.appointments(answer[1:])))
    return Refused(Reason.KEY_REUSED if answer[:1] == b"K" else Reason.UNKNOWN_COURSE)
