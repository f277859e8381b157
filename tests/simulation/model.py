"""What the scripts mean, written a second time, in Python and from their headers: one partition in memory.

A record goes in, an answer comes out, as from ``dosebook_step``; guards, courses and stock are plain values
here, so that nothing is shared with the Lua but the records, answers and events themselves.
"""

import struct
from typing import TYPE_CHECKING

import msgspec

from engine.domain import seats
from engine.domain.course import Appointment, CourseId, Wish
from engine.inventory import codec

if TYPE_CHECKING:
    from collections.abc import Callable

MEMORIES_MAX = 4


class GuardState(msgspec.Struct):
    """A guard; ``memories`` are (op, generation, location), newest first."""

    state: str
    generation: int
    location: int
    op: bytes
    memories: list[tuple[bytes, int, int]]


class CourseState(msgspec.Struct):
    """A course: ``b`` booked, ``x`` cancelled, ``t`` tombstone."""

    state: str
    op: bytes
    appointments: tuple[Appointment, ...]
    cancelled_by: bytes = b""


class Refusal(Exception):
    """An answer that ends an operation; nothing was written."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


class PartitionModel:
    """One partition: its guards, courses, stock and outbox."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.guards: dict[tuple[bytes, int], GuardState] = {}
        self.courses: dict[CourseId, CourseState] = {}
        self.stock: dict[int, tuple[int, bytearray]] = {}
        self.events: list[bytes] = []
        self._operations: dict[bytes, Callable[[bytes], bytes]] = {
            b"c": self._claim,
            b"t": self._take,
            b"b": self._book,
            b"u": self._unclaim,
            b"s": self._settle,
            b"f": self._free,
            b"r": self._resolve,
            b"x": self._cancel,
            b"o": self._open,
        }

    def execute(self, record: bytes) -> bytes:
        """Answer one operation."""
        try:
            return self._operations[record[:1]](record[1:])
        except Refusal as refusal:
            return refusal.answer

    # Guards ----------------------------------------------------------------------------------------------

    def _next_generation(self, guard: GuardState | None, op: bytes) -> int:
        """Generation of a new claim, or the refusal that ``claim`` answers."""
        if guard is None:
            return 1
        known = [(guard.op, guard.generation, guard.location)] if guard.state != "f" else []
        for past, generation, location in known + guard.memories:
            if past == op:
                raise Refusal(b"=" + codec.GENERATION_LOCATION.pack(generation, location))
            if past[:8] == op[:8]:
                raise Refusal(b"K")
        if guard.state != "f":
            raise Refusal(b"L" + codec.LIVE.pack(guard.state.encode(), guard.generation, guard.location))
        return guard.generation + 1

    def _hold(self, person: bytes, kind: int, state: str, generation: int, location: int, op: bytes) -> None:
        before = self.guards.get((person, kind))
        memories = before.memories if before else []
        self.guards[person, kind] = GuardState(state, generation, location, op, memories)

    def _let_go(self, guard: GuardState, *, remember: bool) -> None:
        if remember:
            memory = (guard.op, guard.generation, guard.location)
            guard.memories = [memory, *guard.memories][:MEMORIES_MAX]
        guard.state, guard.location, guard.op = "f", 0, codec.NO_OP

    def _claim(self, body: bytes) -> bytes:
        person, kind, op, location, not_after = codec.CLAIM.unpack(body)
        guard = self.guards.get((person, kind))
        try:
            generation = self._next_generation(guard, op)
        except Refusal:
            if guard is not None:
                self._join(guard, op)
            raise
        self._in_time(not_after)
        self._hold(person, kind, "c", generation, location, op)
        return b"+" + codec.GENERATION.pack(generation)

    def _join(self, guard: GuardState, op: bytes) -> None:
        """The op that claimed comes once more: from now on several takes may be on their way."""
        if guard.state == "c" and guard.op == op:
            guard.state = "j"

    def _guard_of(self, body: bytes, states: str) -> GuardState | None:
        course = CourseId(*codec.COURSE.unpack(body))
        guard = self.guards.get((course.person, course.kind))
        if guard is None or guard.generation != course.generation or guard.state not in states:
            return None
        return guard

    def _unclaim(self, body: bytes) -> bytes:
        *course, buried = codec.UNCLAIM.unpack(body)
        guard = self._guard_of(codec.COURSE.pack(*course), "cj" if buried else "c")
        if guard is None:
            return b"-"
        self._let_go(guard, remember=False)
        return b"+"

    def _settle(self, body: bytes) -> bytes:
        guard = self._guard_of(body, "cjb")
        if guard is None:
            return b"-"
        before, guard.state = guard.state, "b"
        return b"=" if before == "b" else b"+"

    def _free(self, body: bytes) -> bytes:
        guard = self._guard_of(body, "cjb")
        if guard is None:
            return b"-"
        self._let_go(guard, remember=True)
        return b"+"

    # Courses and seats -----------------------------------------------------------------------------------

    def _take(self, body: bytes) -> bytes:
        person, kind, generation, op, not_after = codec.TAKE.unpack_from(body)
        course = CourseId(person, kind, generation)
        before = self.courses.get(course)
        if before is not None:
            if before.state == "t":
                return b"T"
            return b"B" + _seats(before.appointments) if before.op == op else b"K"
        self._in_time(not_after)
        return b"B" + self._sell(course, op, body[codec.TAKE.size :])

    def _book(self, body: bytes) -> bytes:
        person, kind, op, location, not_after = codec.CLAIM.unpack_from(body)
        try:
            generation = self._next_generation(self.guards.get((person, kind)), op)
        except Refusal as refusal:
            return self._not_claimable(person, kind, refusal.answer)
        self._in_time(not_after)
        course = CourseId(person, kind, generation)
        if course in self.courses:
            return b"T"
        sold = self._sell(course, op, body[codec.CLAIM.size :])
        self._hold(person, kind, "b", generation, location, op)
        return b"B" + codec.GENERATION.pack(generation) + sold

    def _not_claimable(self, person: bytes, kind: int, answer: bytes) -> bytes:
        if answer[:1] == b"=":
            generation, location = codec.GENERATION_LOCATION.unpack(answer[1:])
            course = self.courses.get(CourseId(person, kind, generation))
            if course is None or course.state == "t":
                return b"L" + codec.LIVE.pack(b"c", generation, location)
            return b"B" + codec.GENERATION.pack(generation) + _seats(course.appointments)
        if answer[:1] == b"L":
            live = codec.live(answer[1:])
            course = self.courses.get(CourseId(person, kind, live.generation))
            if course is not None and course.state == "b":
                return b"L" + codec.LIVE.pack(b"v", live.generation, live.location)
        return answer

    def _sell(self, course: CourseId, op: bytes, packed_wishes: bytes) -> bytes:
        wishes = tuple(codec.iter_wishes(packed_wishes))
        chosen = tuple(
            Appointment(wish.dose, wish.session, wish.slot, self._lowest_free(wish)) for wish in wishes
        )
        for a in chosen:
            width, mask = self.stock[a.session]
            seats.set_taken(mask, width, a.slot, a.seat)
        self.courses[course] = CourseState("b", op, chosen)
        self._tell(b"b", course, op, chosen)
        return _seats(chosen)

    def _lowest_free(self, wish: Wish) -> int:
        if wish.session not in self.stock:
            raise Refusal(b"N" + bytes([wish.dose]))
        width, mask = self.stock[wish.session]
        for seat in range(8 * width):
            if seats.is_free(mask, width, wish.slot, seat):
                return seat
        raise Refusal(b"F" + bytes([wish.dose]) + codec.SESSION.pack(b"o", width) + bytes(mask))

    def _resolve(self, body: bytes) -> bytes:
        course = CourseId(*codec.COURSE.unpack(body))
        known = self.courses.setdefault(course, CourseState("t", codec.NO_OP, ()))
        if known.state == "b":
            count = len(known.appointments)
            record = codec.COURSE_RECORD.pack(b"b", known.op, count)
            return b"B" + record + _packed(known.appointments)
        return b"X" if known.state == "x" else b"T"

    def _cancel(self, body: bytes) -> bytes:
        person, kind, generation, op, guard_here = codec.CANCEL.unpack(body)
        course = CourseId(person, kind, generation)
        known = self.courses.get(course)
        if known is None or known.state == "t":
            return b"-"
        if known.op[:8] == op[:8]:
            return b"K"
        if known.state == "x":
            if known.cancelled_by != op and known.cancelled_by[:8] == op[:8]:
                return b"K"
            return b"X" + _packed(known.appointments)
        for a in known.appointments:
            width, mask = self.stock[a.session]
            seats.set_free(mask, width, a.slot, a.seat)
        known.state, known.cancelled_by = "x", op
        self._tell(b"x", course, op, known.appointments)
        guard = self.guards.get((person, kind))
        if guard_here and guard and guard.generation == generation and guard.state != "f":
            self._let_go(guard, remember=True)
        return b"X" + _packed(known.appointments)

    def _open(self, body: bytes) -> bytes:
        session, width = codec.OPEN.unpack_from(body)
        if session in self.stock:
            return b"="
        self.stock[session] = (width, bytearray(body[codec.OPEN.size :]))
        return b"+"

    def _in_time(self, not_after_ms: int) -> None:
        if self.now_ms > not_after_ms:
            raise Refusal(b"D")

    def _tell(self, event: bytes, course: CourseId, op: bytes, told: tuple[Appointment, ...]) -> None:
        head = (codec.EVENT_VERSION, event, self.now_ms, course.person, course.kind, course.generation, op)
        self.events.append(codec.EVENT.pack(*head, len(told)) + _packed(told))


def _seats(appointments: tuple[Appointment, ...]) -> bytes:
    return struct.pack(f"<{len(appointments)}H", *(a.seat for a in appointments))


def _packed(appointments: tuple[Appointment, ...]) -> bytes:
    return b"".join(codec.APPOINTMENT.pack(a.dose, a.session, a.slot, a.seat) for a in appointments)
