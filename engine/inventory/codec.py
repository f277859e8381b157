"""Packs operations and unpacks answers, records and events. The formats are those of ``scripts/*.lua``.

``tests/unit/test_codec.py`` holds every format here against the ``record``, ``answers`` and ``format`` lines
in the scripts' headers.
"""

import struct
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from engine.domain.course import Appointment, CourseId, Op, Wish

PERSON_KIND = struct.Struct("<16sB")
COURSE = struct.Struct("<16sBI")
CLAIM = struct.Struct("<16sB16sIQ")
GROUP = struct.Struct("<16sQI16sBIB")
MEMBER = struct.Struct("<16sBIBHBB")
UNCLAIM = struct.Struct("<16sBIB")
RESOLVE = struct.Struct("<16sBIH")
CANCEL = struct.Struct("<16sBI16s")
CONFIRM = struct.Struct("<16sB")
EXTEND = struct.Struct("<16sIBB")
MOVE = struct.Struct("<16sBI16sHQHBB")
EXPIRE = struct.Struct("<H")
ASIDE = struct.Struct("<16sBIH16sBQB")
PART = struct.Struct("<16sBIBH")
OPEN = struct.Struct("<IB")
MARK = struct.Struct("<Q")
WISH = struct.Struct("<BIH")
APPOINTMENT = struct.Struct("<BBHIHH")
GUARD_RECORD = struct.Struct("<cII16s")
MEMORY = struct.Struct("<16sII")
COURSE_RECORD = struct.Struct("<cH16sBHB")
CHANGE_RECORD = struct.Struct("<16scHB")
PART_RECORD = struct.Struct("<cB16sIHH")
EVENT = struct.Struct("<BcQ16sBIH16sB")
ENTRY = struct.Struct("<cBBHIHH")
TAIL = struct.Struct("<QBH")
SESSION = struct.Struct("<cB")
LIVE = struct.Struct("<cII")
GENERATION = struct.Struct("<I")
GENERATION_LOCATION = struct.Struct("<II")
REVISION = struct.Struct("<H")
UNTIL = struct.Struct("<Q")
# Events of version 1: their head, and appointments of the course's home, all taken or all given back.
EVENT_1 = struct.Struct("<BcQ16sBI16sB")
APPOINTMENT_1 = struct.Struct("<BIHH")

EVENT_VERSION = 2
# Of the records of guards, courses and parts, as `meta` of a partition names it.
LAYOUT = b"2"
EVENT_PERSON = struct.calcsize("<BcQ")
NO_OP = bytes(16)
# Earlier courses that a guard remembers.
MEMORIES_MAX = 4
# Changes that a course remembers.
CHANGES_MAX = 16
# States of a guard whose course is not decided: claimed, and claimed by an op that came more than once.
CLAIMED = (b"c", b"j")
# States of a course that has its seats.
LIVE_STATES = (b"b", b"h")
# Events that begin a course, and that end it.
BEGINS, ENDS = (b"b", b"h"), (b"x", b"e")
# Verbs of an event's entries: what it tells of a seat in its own partition, and of one elsewhere.
TAKEN, RELEASED, JOINED, LEFT = b"+", b"-", b">", b"<"


# Operations ------------------------------------------------------------------------------------------------


class Member(msgspec.Struct, frozen=True, gc=False):
    """One person of a group. ``number``: the location for ``book``, the generation for ``take``.

    ``given_vaccine`` and ``given_day``: the last dose given elsewhere, 0 for none.
    """

    person: bytes
    kind: int
    number: int
    wishes: tuple[Wish, ...]
    parts: tuple[Appointment, ...] = ()
    given_vaccine: int = 0
    given_day: int = 0


class Group(msgspec.Struct, frozen=True, gc=False):
    """Whose courses begin together. ``hold_ms`` 0 books; ``instead``: the hold that makes room."""

    op: Op
    not_after_ms: int
    members: tuple[Member, ...]
    hold_ms: int = 0
    instead: CourseId | None = None


def _wishes(wishes: Iterable[Wish]) -> bytes:
    return b"".join([WISH.pack(wish.dose, wish.session, wish.slot) for wish in wishes])


def pack_appointments(appointments: Iterable[Appointment]) -> bytes:
    """Appointments one after the other."""
    return b"".join(
        [APPOINTMENT.pack(a.dose, a.where, a.revision, a.session, a.slot, a.seat) for a in appointments]
    )


def _group(group: Group) -> bytes:
    instead = group.instead or NOBODY
    head = GROUP.pack(
        group.op.id,
        group.not_after_ms,
        group.hold_ms,
        instead.person,
        instead.kind,
        instead.generation,
        len(group.members),
    )
    return head + b"".join([_member(member) for member in group.members])


def _member(m: Member) -> bytes:
    head = MEMBER.pack(m.person, m.kind, m.number, m.given_vaccine, m.given_day, len(m.wishes), len(m.parts))
    return head + _wishes(m.wishes) + pack_appointments(m.parts)


def _courses(courses: Iterable[CourseId]) -> bytes:
    return b"".join([COURSE.pack(course.person, course.kind, course.generation) for course in courses])


def claim(person: bytes, kind: int, op: Op, location: int, not_after_ms: int) -> bytes:
    """``scripts/claim.lua``."""
    return b"c" + CLAIM.pack(person, kind, op.id, location, not_after_ms)


def take(group: Group) -> bytes:
    """``scripts/take.lua``. A member's number is its generation."""
    return b"t" + _group(group)


def book(group: Group) -> bytes:
    """``scripts/book.lua``: claim, take and settle in one. A member's number is the location."""
    return b"b" + _group(group)


def unclaim(course: CourseId, *, buried: bool) -> bytes:
    """``scripts/unclaim.lua``. ``buried``: the course's tombstone stands."""
    return b"u" + UNCLAIM.pack(course.person, course.kind, course.generation, buried)


def settle(course: CourseId) -> bytes:
    """``scripts/settle.lua``."""
    return b"s" + COURSE.pack(course.person, course.kind, course.generation)


def free(course: CourseId) -> bytes:
    """``scripts/free.lua``."""
    return b"f" + COURSE.pack(course.person, course.kind, course.generation)


def resolve(course: CourseId, revision: int = 0) -> bytes:
    """``scripts/resolve.lua``. ``revision``: the one that the change in doubt started from; 0 for none."""
    return b"r" + RESOLVE.pack(course.person, course.kind, course.generation, revision)


def cancel(course: CourseId, op: Op) -> bytes:
    """``scripts/cancel.lua``."""
    return b"x" + CANCEL.pack(course.person, course.kind, course.generation, op.id)


def confirm(courses: Sequence[CourseId], op: Op) -> bytes:
    """``scripts/hold.lua``."""
    return b"y" + CONFIRM.pack(op.id, len(courses)) + _courses(courses)


def extend(courses: Sequence[CourseId], op: Op, hold_ms: int, extensions_max: int) -> bytes:
    """``scripts/hold.lua``."""
    return b"w" + EXTEND.pack(op.id, hold_ms, extensions_max, len(courses)) + _courses(courses)


class Move(msgspec.Struct, frozen=True, gc=False):
    """Which seats of a course end (by dose), and which come. ``revision``: the one that was read."""

    course: CourseId
    op: Op
    revision: int
    not_after_ms: int
    ends: frozenset[int]
    wishes: tuple[Wish, ...] = ()
    parts: tuple[Appointment, ...] = ()


def move(change: Move) -> bytes:
    """``scripts/move.lua``. What only gives seats back passes at maxmemory."""
    course, doses = change.course, sum(1 << (dose - 1) for dose in change.ends)
    head = MOVE.pack(
        course.person,
        course.kind,
        course.generation,
        change.op.id,
        change.revision,
        change.not_after_ms,
        doses,
        len(change.wishes),
        len(change.parts),
    )
    code = b"v" if change.wishes or change.parts else b"d"
    return code + head + _wishes(change.wishes) + pack_appointments(change.parts)


def expire(count: int) -> bytes:
    """``scripts/expire.lua``."""
    return b"e" + EXPIRE.pack(count)


class Aside(msgspec.Struct, frozen=True, gc=False):
    """Seats to set aside for the ``revision`` of a course whose home is partition ``home``."""

    course: CourseId
    revision: int
    op: Op
    home: int
    not_after_ms: int
    wishes: tuple[Wish, ...]


def aside(ask: Aside) -> bytes:
    """``scripts/part.lua``."""
    course = ask.course
    head = ASIDE.pack(
        course.person,
        course.kind,
        course.generation,
        ask.revision,
        ask.op.id,
        ask.home,
        ask.not_after_ms,
        len(ask.wishes),
    )
    return b"a" + head + _wishes(ask.wishes)


def keep(part: "PartId") -> bytes:
    """``scripts/part.lua``."""
    return b"k" + part_field(part)


def quit_part(part: "PartId") -> bytes:
    """``scripts/part.lua``."""
    return b"q" + part_field(part)


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
    """A live guard in the way. ``state``: ``v`` verified live, else the guard's state."""

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


class Change(msgspec.Struct, frozen=True):
    """What an op did to a course.

    ``act``: ``b`` begun, ``c`` confirmed, ``w`` extended, ``v`` moved, ``x`` ended. ``revision``: the one
    that it made. ``appointments``: what a move left, or what was begun; none for the other acts.
    """

    op: bytes
    act: bytes
    revision: int
    appointments: tuple[Appointment, ...] = ()


class CourseRecord(msgspec.Struct, frozen=True):
    """A course as recorded. ``state``: ``b`` booked, ``h`` held, ``x`` ended, ``t`` tombstone.

    ``appointments``: those it has, or had when it ended. ``changes``: newest first.
    """

    state: bytes
    op: bytes
    appointments: tuple[Appointment, ...]
    revision: int = 1
    given_vaccine: int = 0
    given_day: int = 0
    changes: tuple[Change, ...] = ()


class PartId(msgspec.Struct, frozen=True, gc=False):
    """One dose of a course, set aside away from its home for one revision of it."""

    course: CourseId
    dose: int
    revision: int


class Part(msgspec.Struct, frozen=True):
    """A part as recorded. ``state``: ``s`` set aside, ``b`` counted by its ``home``, ``x`` given back."""

    state: bytes
    home: int
    op: bytes
    session: int
    slot: int
    seat: int


class Entry(msgspec.Struct, frozen=True, gc=False):
    """What an event tells of one seat: ``TAKEN``, ``RELEASED``, ``JOINED`` or ``LEFT``.

    In a part's own events ``appointment.where`` is its home.
    """

    verb: bytes
    appointment: Appointment


class Event(msgspec.Struct, frozen=True, gc=False):
    """One entry of an outbox; ``at_ms`` in the partition's clock.

    ``type``: ``b`` booked, ``h`` held, ``c`` confirmed, ``w`` extended, ``v`` moved, ``x`` cancelled, ``e``
    expired, and of a part: ``a`` set aside, ``r`` released. ``until_ms``: when a hold ends.
    """

    type: bytes
    at_ms: int
    course: CourseId
    revision: int
    op: bytes
    entries: tuple[Entry, ...]
    until_ms: int = 0
    given_vaccine: int = 0
    given_day: int = 0

    def seats(self, verb: bytes) -> tuple[Appointment, ...]:
        """The appointments that the event tells of with this verb."""
        return tuple([entry.appointment for entry in self.entries if entry.verb == verb])


def begun(packed: bytes) -> tuple[int, bytes]:
    """``until_ms`` and the members' answers of a ``B`` answer, without its code."""
    (until_ms,) = UNTIL.unpack_from(packed)
    return until_ms, packed[UNTIL.size :]


def seats_of(packed: bytes) -> tuple[int, ...]:
    """Seat numbers, in the order of the wishes."""
    return struct.unpack(f"<{len(packed) // 2}H", packed)


def appointments(packed: bytes) -> tuple[Appointment, ...]:
    """Unpack appointments that stand one after the other."""
    return tuple(
        [
            Appointment(dose, session, slot, seat, revision, where)
            for dose, where, revision, session, slot, seat in APPOINTMENT.iter_unpack(packed)
        ]
    )


def live(packed: bytes) -> Live:
    """Unpack an ``L`` answer, without its code and member."""
    return Live(*LIVE.unpack(packed))


def guard(record: bytes) -> Guard:
    """Unpack a guard's record."""
    memories = tuple(Memory(*fields) for fields in MEMORY.iter_unpack(record[GUARD_RECORD.size :]))
    state, generation, location, op = GUARD_RECORD.unpack_from(record)
    return Guard(state, generation, location, op, memories)


def course(record: bytes) -> CourseRecord:
    """Unpack a course's record."""
    state, revision, op, given_vaccine, given_day, count = COURSE_RECORD.unpack_from(record)
    end = COURSE_RECORD.size + count * APPOINTMENT.size
    held = appointments(record[COURSE_RECORD.size : end])
    return CourseRecord(state, op, held, revision, given_vaccine, given_day, tuple(_changes(record[end:])))


def _changes(packed: bytes) -> Iterator[Change]:
    at = 0
    while at < len(packed):
        op, act, revision, count = CHANGE_RECORD.unpack_from(packed, at)
        begin, at = at + CHANGE_RECORD.size, at + CHANGE_RECORD.size + count * APPOINTMENT.size
        yield Change(op, act, revision, appointments(packed[begin:at]))


def part(record: bytes) -> Part:
    """Unpack a part's record."""
    return Part(*PART_RECORD.unpack(record))


def event(packed: bytes) -> Event:
    """Unpack one outbox entry. Raises ``ValueError`` for a version that is not known, or a torn entry."""
    if packed[:1] == b"\x01":
        return _event_1(packed)
    if len(packed) < EVENT.size:
        raise ValueError(f"{len(packed)} bytes are no event")
    version, type_, at_ms, person, kind, generation, revision, op, count = EVENT.unpack_from(packed)
    if version != EVENT_VERSION:
        raise ValueError(f"event version {version} is not known; this engine reads up to {EVENT_VERSION}")
    end = EVENT.size + count * ENTRY.size
    if len(packed) not in (end, end + TAIL.size):
        raise ValueError(f"{len(packed)} bytes are no event of {count} entries")
    entries = tuple(
        [
            Entry(verb, Appointment(dose, session, slot, seat, brought, where))
            for verb, dose, where, brought, session, slot, seat in ENTRY.iter_unpack(packed[EVENT.size : end])
        ]
    )
    tail = TAIL.unpack_from(packed, end) if len(packed) > end else (0, 0, 0)
    return Event(type_, at_ms, CourseId(person, kind, generation), revision, op, entries, *tail)


def _event_1(packed: bytes) -> Event:
    """An event of the version before: all its seats are taken, or all given back."""
    if len(packed) < EVENT_1.size or (len(packed) - EVENT_1.size) % APPOINTMENT_1.size:
        raise ValueError(f"{len(packed)} bytes are no event")
    _, type_, at_ms, person, kind, generation, op, _ = EVENT_1.unpack_from(packed)
    begins = type_ == b"b"
    entries = tuple(
        Entry(TAKEN if begins else RELEASED, Appointment(*fields))
        for fields in APPOINTMENT_1.iter_unpack(packed[EVENT_1.size :])
    )
    return Event(type_, at_ms, CourseId(person, kind, generation), 1 if begins else 2, op, entries)


def pack_event(event: Event) -> bytes:
    """An outbox entry, as the scripts write it."""
    course = event.course
    head = EVENT.pack(
        EVENT_VERSION,
        event.type,
        event.at_ms,
        course.person,
        course.kind,
        course.generation,
        event.revision,
        event.op,
        len(event.entries),
    )
    entries = b"".join([entry.verb + pack_appointments([entry.appointment]) for entry in event.entries])
    says = event.until_ms or event.given_vaccine
    return head + entries + (TAIL.pack(event.until_ms, event.given_vaccine, event.given_day) if says else b"")


def pack_guard(guard: Guard) -> bytes:
    """A guard's record."""
    head = GUARD_RECORD.pack(guard.state, guard.generation, guard.location, guard.op)
    return head + b"".join([MEMORY.pack(m.op, m.generation, m.location) for m in guard.memories])


def pack_course(course: CourseRecord) -> bytes:
    """A course's record."""
    held = course.appointments
    head = COURSE_RECORD.pack(
        course.state, course.revision, course.op, course.given_vaccine, course.given_day, len(held)
    )
    return head + pack_appointments(held) + b"".join([_pack_change(change) for change in course.changes])


def _pack_change(change: Change) -> bytes:
    head = CHANGE_RECORD.pack(change.op, change.act, change.revision, len(change.appointments))
    return head + pack_appointments(change.appointments)


def pack_part(part: Part) -> bytes:
    """A part's record."""
    return PART_RECORD.pack(part.state, part.home, part.op, part.session, part.slot, part.seat)


def person_of(packed_event: bytes) -> bytes:
    """Person key of an outbox entry; shorter for a torn one."""
    return packed_event[EVENT_PERSON:][:16]


def joined_of(packed_event: bytes) -> set[int]:
    """Partitions of the seats that an outbox entry tells as ``JOINED``; none for a torn one."""
    if packed_event[:1] != b"\x02" or len(packed_event) < EVENT.size:
        return set()
    entries = packed_event[EVENT.size : EVENT.size + packed_event[EVENT.size - 1] * ENTRY.size]
    if JOINED not in entries[:: ENTRY.size]:
        return set()
    return {
        entries[at + 2] for at in range(0, len(entries) - 2, ENTRY.size) if entries[at : at + 1] == JOINED
    }


# Fields of a person's bucket: guards, courses and parts are told apart by their lengths.


def is_guard(field: bytes) -> bool:
    """Whether a field of a person's bucket is a guard's."""
    return len(field) == PERSON_KIND.size


def is_course(field: bytes) -> bool:
    """Whether a field of a person's bucket is a course's."""
    return len(field) == COURSE.size


def is_part(field: bytes) -> bool:
    """Whether a field of a person's bucket is a part's."""
    return len(field) == PART.size


def guard_field(field: bytes) -> tuple[bytes, int]:
    """``(person, kind)`` of a guard's field."""
    person, kind = PERSON_KIND.unpack(field)
    return person, kind


def course_field(field: bytes) -> CourseId:
    """Course id of a course's field."""
    return CourseId(*COURSE.unpack(field))


def part_field(part: PartId) -> bytes:
    """Field of a part."""
    course = part.course
    return PART.pack(course.person, course.kind, course.generation, part.dose, part.revision)


def part_id(field: bytes) -> PartId:
    """Part of a part's field."""
    person, kind, generation, dose, revision = PART.unpack(field)
    return PartId(CourseId(person, kind, generation), dose, revision)


def stock(value: bytes) -> tuple[bytes, int, bytes]:
    """``(state, width, mask)`` of a session's key; state ``o`` is open."""
    state, width = SESSION.unpack_from(value)
    return state, width, value[SESSION.size :]


def iter_wishes(packed: bytes) -> Iterator[Wish]:
    """Unpack wishes that stand one after the other."""
    return (Wish(*fields) for fields in WISH.iter_unpack(packed))


NOBODY = CourseId(bytes(16), 0, 0)
