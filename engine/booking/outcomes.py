"""What a use case can answer. Refusals are values: each has written nothing."""

from enum import StrEnum

import msgspec

from engine.domain.course import Course, Wish


class Reason(StrEnum):
    """Why a booking or a cancellation was refused. Stable names: they stand in problems and metrics."""

    FULL = "full"
    CLOSED = "closed"
    ALREADY_BOOKED = "already-booked"
    KEY_REUSED = "key-reused"
    SUPERSEDED = "superseded"
    LATE = "late"
    UNKNOWN_COURSE = "unknown-course"


class Booked(msgspec.Struct, frozen=True):
    """The course as it was booked. The same op once more gets the same, even after a cancellation."""

    course: Course


class Cancelled(msgspec.Struct, frozen=True):
    """The course is cancelled, now or before; ``course.appointments`` are those that were released."""

    course: Course


class Refused(msgspec.Struct, frozen=True):
    """Refused, nothing written. ``stock`` is the mask of the session of dose ``dose`` where that was full."""

    reason: Reason
    dose: int = 0
    width: int = 0
    stock: bytes = b""
    wishes: tuple[Wish, ...] = ()


class InDoubt(msgspec.Struct, frozen=True):
    """Too many rivals for one guard, one after the other: ask again with the same op."""


BookOutcome = Booked | Refused | InDoubt
CancelOutcome = Cancelled | Refused
