"""Packs operations and unpacks answers, records and events. The formats are those of ``scripts/*.lua``.

``tests/unit/test_codec.py`` holds every format here against the ``record``, ``answers`` and ``format`` lines
in the scripts' headers.
"""

import struct
from collections.abc import Iterable, Iterator

import msgspec

from engine.domain.course import Appointment, CourseId, Op, Wish

PERSON_KIND = struct.Struct("<16sB")
COURSE = struct.Struct("<16sBI")
CLAIM = struct.Struct("<16sB16sIQ")
TAKE = struct.Struct("<16sBI16sQ")
UNCLAIM = struct.Struct("<16sBIB")
CANCEL = struct.Struct("<16sBI16sB")
OPEN = struct.Struct("<IB")
MARK = struct.Struct("<Q")
WISH = struct.Struct("<BIH")
APPOINTMENT = struct.Struct("<BIHH")
GUARD_RECORD = struct.Struct("<cII16s")
MEMORY = struct.Struct("<16sII")
COURSE_RECORD = struct.Struct("<c16sB")
EVENT = struct.Struct("<BcQ16sBI16sB")
SESSION = struct.Struct("<cB")
LIVE = struct.Struct("<cII")
GENERATION = struct.Struct("<I")
GENERATION_LOCATION = struct.Struct("<II")

EVENT_VERSION = 1
EVENT_PERSON = struct.calcsize("<BcQ")
NO_OP = bytes(16)
# Earlier courses that a guard remembers.
MEMORIES_MAX = 4
# States of a guard whose course is not decided: claimed, and claimed by an op that came more than once.
CLAIMED = (b"c", b"j")


# Operations ------------------------------------------------------------------------------------------------


def _wishes(wishes: Iterable[Wish]) -> bytes:
    return b"".join([WISH.pack(wish.dose, wish.session, wish.slot) for wish in wishes])


def claim(person: bytes, kind: int, op: Op, location: int, not_after_ms: int) -> bytes:
    """``scripts/claim.lua``."""
    return b"c" + CLAIM.pack(person, kind, op.id, location, not_after_ms)


def take(course: CourseId, op: Op, not_after_ms: int, wishes: Iterable[Wish]) -> bytes:
    """``scripts/take.lua``."""
    return (
        b"t" + TAKE.pack(course.person, course.kind, course.generation, op.id, not_after_ms) + _wishes(wishes)
    )


def book(person: bytes, kind: int, op: Op, location: int, not_after_ms: int, wishes: Iterable[Wish]) -> bytes:
    """``scripts/book.lua``: claim, take and settle in one."""
    return b"b" + CLAIM.pack(person, kind, op.id, location, not_after_ms) + _wishes(wishes)


def unclaim(course: CourseId, *, buried: bool) -> bytes:
    """``scripts/unclaim.lua``. ``buried``: the course's tombstone stands."""
    return b"u" + UNCLAIM.pack(course.person, course.kind, course.generation, buried)


def settle(course: CourseId) -> bytes:
    """``scripts/settle.lua``."""
    return b"s" + COURSE.pack(course.person, course.kind, course.generation)


def free(course: CourseId) -> bytes:
    """``scripts/free.lua``."""
    return b"f" + COURSE.pack(course.person, course.kind, course.generation)


def resolve(course: CourseId) -> bytes:
    """``scripts/resolve.lua``."""
    return b"r" + COURSE.pack(course.person, course.kind, course.generation)


def cancel(course: CourseId, op: Op, *, guard_here: bool) -> bytes:
    """``scripts/cancel.lua``."""
    return b"x" + CANCEL.pack(course.person, course.kind, course.generation, op.id, guard_here)


def open_session(session: int, width: int, seats: bytes) -> bytes:
    """``scripts/open.lua``."""
    return b"o" + OPEN.pack(session, width) + seats


def mark(number: int) -> bytes:
    """``scripts/mark.lua``."""
    return b"m" + MARK.pack(number)


def read_guard(person: bytes, kind: int) -> bytes:
    """``scripts/read.lua``."""
    return b"g" + PERSON_KIND.pack(person, kind)


def read_course(course: CourseId) -> bytes:
    """``scripts/read.lua``."""
    return b"l" + COURSE.pack(course.person, course.kind, course.generation)


# Answers and records ---------------------------------------------------------------------------------------


class Live(msgspec.Struct, frozen=True):
    """A live guard in the way. ``state``: ``v`` verified booked, else the guard's state."""

    state: bytes
    generation: int
    location: int


class Memory(msgspec.Struct, frozen=True):
    """An earlier course that a guard remembers by the op that booked it."""

    op: bytes
    generation: int
    location: int


class Guard(msgspec.Struct, frozen=True):
    """A guard as recorded. ``state``: ``f`` free, ``c`` claimed, ``j`` claimed and joined, ``b`` booked."""

    state: bytes
    generation: int
    location: int
    op: bytes
    memories: tuple[Memory, ...]


class CourseRecord(msgspec.Struct, frozen=True):
    """A course as recorded. ``state``: ``b`` booked, ``x`` cancelled, ``t`` tombstone."""

    state: bytes
    op: bytes
    appointments: tuple[Appointment, ...]
    cancelled_by: bytes


class Event(msgspec.Struct, frozen=True, gc=False):
    """One entry of an outbox. ``type``: ``b`` booked, ``x`` cancelled; ``at_ms`` in the partition's clock."""

    type: bytes
    at_ms: int
    course: CourseId
    op: bytes
    appointments: tuple[Appointment, ...]


def seats_of(packed: bytes) -> tuple[int, ...]:
    """Seat numbers of a ``B`` answer, in the order of the wishes."""
    return struct.unpack(f"<{len(packed) // 2}H", packed)


def appointments(packed: bytes) -> tuple[Appointment, ...]:
    """Unpack appointments that stand one after the other."""
    return tuple(Appointment(*fields) for fields in APPOINTMENT.iter_unpack(packed))


def live(packed: bytes) -> Live:
    """Unpack an ``L`` answer, without its code."""
    return Live(*LIVE.unpack(packed))


def guard(record: bytes) -> Guard:
    """Unpack a guard's record."""
    memories = tuple(Memory(*fields) for fields in MEMORY.iter_unpack(record[GUARD_RECORD.size :]))
    state, generation, location, op = GUARD_RECORD.unpack_from(record)
    return Guard(state, generation, location, op, memories)


def course(record: bytes) -> CourseRecord:
    """Unpack a course's record."""
    state, op, count = COURSE_RECORD.unpack_from(record)
    end = COURSE_RECORD.size + count * APPOINTMENT.size
    return CourseRecord(state, op, appointments(record[COURSE_RECORD.size : end]), record[end:])


def event(packed: bytes) -> Event:
    """Unpack one outbox entry. Raises ``ValueError`` for a version that is not known, or a torn entry."""
    if len(packed) < EVENT.size or (len(packed) - EVENT.size) % APPOINTMENT.size:
        raise ValueError(f"{len(packed)} bytes are no event")
    version, kind_of_event, at_ms, person, kind, generation, op, _ = EVENT.unpack_from(packed)
    if version != EVENT_VERSION:
        raise ValueError(f"event version {version} is not known; this engine reads version {EVENT_VERSION}")
    course_id = CourseId(person, kind, generation)
    return Event(kind_of_event, at_ms, course_id, op, appointments(packed[EVENT.size :]))


def pack_guard(guard: Guard) -> bytes:
    """A guard's record."""
    head = GUARD_RECORD.pack(guard.state, guard.generation, guard.location, guard.op)
    return head + b"".join([MEMORY.pack(m.op, m.generation, m.location) for m in guard.memories])


def pack_course(course: CourseRecord) -> bytes:
    """A course's record."""
    head = COURSE_RECORD.pack(course.state, course.op, len(course.appointments))
    seats = b"".join([APPOINTMENT.pack(a.dose, a.session, a.slot, a.seat) for a in course.appointments])
    return head + seats + course.cancelled_by


def person_of(packed_event: bytes) -> bytes:
    """Person key of an outbox entry; shorter for a torn one."""
    return packed_event[EVENT_PERSON:][:16]


def is_guard(field: bytes) -> bool:
    """Whether a field of a person's bucket is a guard's; the others are courses'."""
    return len(field) == PERSON_KIND.size


def guard_field(field: bytes) -> tuple[bytes, int]:
    """``(person, kind)`` of a guard's field."""
    person, kind = PERSON_KIND.unpack(field)
    return person, kind


def course_field(field: bytes) -> CourseId:
    """Course id of a course's field."""
    return CourseId(*COURSE.unpack(field))


def stock(value: bytes) -> tuple[bytes, int, bytes]:
    """``(state, width, mask)`` of a session's key; state ``o`` is open."""
    state, width = SESSION.unpack_from(value)
    return state, width, value[SESSION.size :]


def iter_wishes(packed: bytes) -> Iterator[Wish]:
    """Unpack wishes that stand one after the other."""
    return (Wish(*fields) for fields in WISH.iter_unpack(packed))
