"""Cancels a course, booked or held: all seats are given back in one operation, whose event frees the guard.

Commit point: ``cancel`` in the home partition. If the process dies after it, the outbox consumer frees the
guard and gives back what is elsewhere; a claim that comes earlier resolves the course.
"""

from engine.booking.aside import quit_all
from engine.booking.outcomes import Cancelled, CancelOutcome, Reason, Refused
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Course, CourseId, Op
from engine.inventory import codec


def cancel(course: CourseId, location: int, op: Op, placement: Placement) -> Steps[CancelOutcome]:
    """Steps of a cancellation: one call, and one for each seat elsewhere."""
    answer = yield Call(placement.keyspace.of_location(location), codec.cancel(course, op))
    if answer[:1] != b"X":
        return Refused(Reason.KEY_REUSED if answer[:1] == b"K" else Reason.UNKNOWN_COURSE)
    appointments = codec.appointments(answer[1:])
    yield from quit_all(course, appointments)
    return Cancelled(Course(course, location, "ended", appointments))
