"""Courses and appointments, and what can be asked for."""

from enum import IntEnum

import msgspec

PERSON_KEY_BYTES = 16
OP_BYTES = 16
HERE = 255


class Kind(IntEnum):
    """What a course is for. One live course per person and kind.

    An ``OFFER`` sets freed seats aside for people on the waitlist; its "person" is the offer itself.
    """

    PRIMARY = 1
    BOOSTER = 2
    OFFER = 3


class Wish(msgspec.Struct, frozen=True, gc=False):
    """One dose in one slot of a session; any seat of it."""

    dose: int
    session: int
    slot: int


class Appointment(msgspec.Struct, frozen=True, gc=False):
    """One seat taken for one dose of one course.

    ``revision`` is the course's that brought it; ``where`` is ``HERE`` in its home, else the partition.
    """

    dose: int
    session: int
    slot: int
    seat: int
    revision: int = 1
    where: int = HERE


class CourseId(msgspec.Struct, frozen=True, gc=False):
    """A course: the generation of its guard makes it unique. ``person`` is the 16-byte person key."""

    person: bytes
    kind: int
    generation: int


class Course(msgspec.Struct, frozen=True, gc=False):
    """A course as it is recorded. ``state`` is one of ``booked``, ``held``, ``ended``.

    ``until_ms`` is when a hold ends, in its partition's clock. ``given_vaccine`` (its number) and
    ``given_day`` (days since 1970) tell of the last dose given elsewhere, 0 for none. ``changes`` are the
    acts of the writes that followed the first, newest first.
    """

    id: CourseId
    location: int
    state: str
    appointments: tuple[Appointment, ...]
    revision: int = 1
    until_ms: int = 0
    given_vaccine: int = 0
    given_day: int = 0
    changes: tuple[str, ...] = ()


class Op(msgspec.Struct, frozen=True, gc=False):
    """One write as its caller means it: 8 bytes of its idempotency key, 8 of the digest of its request.

    The same key with the same digest is the same op, and gets the same answer. The same key with another
    digest is a mistake of the caller, and is refused.
    """

    key: bytes
    digest: bytes

    @property
    def id(self) -> bytes:
        """The 16 bytes that the scripts compare."""
        return self.key + self.digest
