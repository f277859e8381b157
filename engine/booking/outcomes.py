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
    GONE = "gone"
    CHANGED = "changed"
    TOO_OFTEN = "too-often"
    HELD = "held"


class Booked(msgspec.Struct, frozen=True):
    """The courses as they began, held or booked, in the order of the request.

    The same op once more gets the same, even after a cancellation; ``until_ms`` is as it is then.
    """

    courses: tuple[Course, ...]

    @property
    def course(self) -> Course:
        """The first."""
        return self.courses[0]


class Confirmed(msgspec.Struct, frozen=True):
    """What was held is booked, now or before."""


class Extended(msgspec.Struct, frozen=True):
    """The holds end at ``until_ms``, in their partition's clock; 0 where they have ended since."""

    until_ms: int


class Moved(msgspec.Struct, frozen=True):
    """The course with its appointments after the change."""

    course: Course


class Cancelled(msgspec.Struct, frozen=True):
    """The course is cancelled, now or before; ``course.appointments`` are those that were released."""

    course: Course


class Refused(msgspec.Struct, frozen=True):
    """Refused, nothing written. ``stock`` is the mask of the session of dose ``dose`` where that was full.

    ``member``: whose refusal it is in a household, from 0.
    """

    reason: Reason
    dose: int = 0
    width: int = 0
    stock: bytes = b""
    wishes: tuple[Wish, ...] = ()
    member: int = 0


class InDoubt(msgspec.Struct, frozen=True):
    """Too many rivals for one guard, one after the other: ask again with the same op."""


BookOutcome = Booked | Refused | InDoubt
CancelOutcome = Cancelled | Refused
MoveOutcome = Moved | Refused
