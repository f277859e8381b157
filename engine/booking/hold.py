"""Confirms and extends holds: of one person, or of a household at one location, all of them or none.

Commit point: one operation in the home partition. A hold that was not confirmed before its time is over ends
by itself: the janitor ends it, or a taker who finds nothing free.
"""

from collections.abc import Sequence

import msgspec

from engine.booking.outcomes import Confirmed, Extended, Reason, Refused
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import CourseId, Op
from engine.inventory import codec


class Extension(msgspec.Struct, frozen=True, gc=False):
    """How long from now on, and how often at most."""

    hold_ms: int
    extensions_max: int


_REASONS = {b"G": Reason.GONE, b"K": Reason.KEY_REUSED, b"M": Reason.TOO_OFTEN}


def confirm(
    courses: Sequence[CourseId], location: int, op: Op, placement: Placement
) -> Steps[Confirmed | Refused]:
    """Steps of confirming: one call."""
    answer = yield Call(placement.keyspace.of_location(location), codec.confirm(courses, op))
    return Confirmed() if answer[:1] == b"Y" else _refused(answer)


def extend(
    courses: Sequence[CourseId], location: int, op: Op, by: Extension, placement: Placement
) -> Steps[Extended | Refused]:
    """Steps of extending: one call."""
    record = codec.extend(courses, op, by.hold_ms, by.extensions_max)
    answer = yield Call(placement.keyspace.of_location(location), record)
    if answer[:1] == b"W":
        return Extended(codec.begun(answer[1:])[0])
    return _refused(answer)


def _refused(answer: bytes) -> Refused:
    return Refused(_REASONS[answer[:1]], member=answer[1] - 1)
