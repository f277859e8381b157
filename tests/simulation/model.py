"""What the scripts mean, written a second time, in Python and from their headers: one partition in memory.

A record goes in, an answer comes out, as from ``dosebook_step``; guards, courses, parts, holds and stock are
plain values here, so that nothing is shared with the Lua but the records, answers and events themselves.
"""

import struct
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from engine.domain import seats
from engine.domain.course import HERE, Appointment, CourseId, Op, Wish
from engine.inventory import codec

MEMORIES_MAX, CHANGES_MAX = 4, 16
LAZY_ROUNDS, LAZY_EXPIRIES = 64, 16
T = TypeVar("T")


class GuardState(msgspec.Struct):
    """A guard; ``memories`` are (op, generation, location), newest first."""

    state: str
    generation: int
    location: int
    op: bytes
    memories: list[tuple[bytes, int, int]]

    def record(self) -> bytes:
        """As Redis has it."""
        head = codec.GUARD_RECORD.pack(self.state.encode(), self.generation, self.location, self.op)
        return head + b"".join(codec.MEMORY.pack(*memory) for memory in self.memories)


class CourseState(msgspec.Struct):
    """A course; ``changes`` are (op, act, revision, appointments left), newest first."""

    state: str
    op: bytes = codec.NO_OP
    appointments: tuple[Appointment, ...] = ()
    revision: int = 0
    vaccine: int = 0
    day: int = 0
    changes: list[tuple[bytes, str, int, tuple[Appointment, ...]]] = []

    def record(self) -> bytes:
        """As Redis has it."""
        count = len(self.appointments)
        head = (self.state.encode(), self.revision, self.op, self.vaccine, self.day, count)
        changes = [
            codec.CHANGE_RECORD.pack(op, act.encode(), revision, len(left)) + packed(left)
            for op, act, revision, left in self.changes
        ]
        return codec.COURSE_RECORD.pack(*head) + packed(self.appointments) + b"".join(changes)

    def began_with(self) -> tuple[Appointment, ...]:
        """The appointments before any move."""
        return next((left for _, act, _, left in self.changes if act == "b"), self.appointments)

    def knows(self, op: bytes) -> tuple[str, int, tuple[Appointment, ...]] | None:
        """What this op did: act, revision, appointments left. Refuses a key of another request."""
        for past, act, revision, left in self.changes:
            if past[:8] == op[:8]:
                if past != op:
                    raise Refusal(b"K")
                return act, revision, left
        if self.op[:8] == op[:8]:
            if self.op != op:
                raise Refusal(b"K")
            return "b", 1, self.appointments
        return None

    def remember(self, op: bytes, act: str, left: tuple[Appointment, ...] = ()) -> None:
        """The op made the next revision."""
        self.revision += 1
        self.changes = [(op, act, self.revision, left), *self.changes][:CHANGES_MAX]


class PartState(msgspec.Struct):
    """A part: ``s`` set aside, ``b`` counted, ``x`` given back."""

    state: str
    home: int
    op: bytes
    appointment: Appointment

    def record(self) -> bytes:
        """As Redis has it."""
        a = self.appointment
        return codec.PART_RECORD.pack(self.state.encode(), self.home, self.op, a.session, a.slot, a.seat)


class Refusal(Exception):
    """An answer that ends an operation; nothing was written."""

    def __init__(self, answer: bytes) -> None:
        super().__init__(answer)
        self.answer = answer


class Draft:
    """Stock as an operation would leave it."""

    def __init__(self, stock: dict[int, tuple[int, bytearray]]) -> None:
        self.before = stock
        self.stock = {session: (width, bytearray(mask)) for session, (width, mask) in stock.items()}

    def take(self, wishes: Iterable[Wish], revision: int) -> tuple[Appointment, ...]:
        """The lowest free seat for each wish, or ``Refusal``."""
        return tuple([self._take(wish, revision) for wish in wishes])

    def give_back(self, appointments: Iterable[Appointment]) -> None:
        """Set the seats' bits."""
        for a in appointments:
            width, mask = self.stock[a.session]
            assert not seats.is_free(mask, width, a.slot, a.seat), "a live course's seat is free"
            seats.set_free(mask, width, a.slot, a.seat)

    def _take(self, wish: Wish, revision: int) -> Appointment:
        if wish.session not in self.stock:
            raise Refusal(b"N" + bytes([wish.dose]))
        width, mask = self.stock[wish.session]
        if (wish.slot + 1) * width > len(mask):
            raise Refusal(b"N" + bytes([wish.dose]))
        for seat in self.order(width):
            if seats.is_free(mask, width, wish.slot, seat):
                seats.set_taken(mask, width, wish.slot, seat)
                return Appointment(wish.dose, wish.session, wish.slot, seat, revision)
        _, before = self.before[wish.session]
        raise Refusal(b"F" + bytes([wish.dose]) + codec.SESSION.pack(b"o", width) + bytes(before))

    @staticmethod
    def order(width: int) -> Iterable[int]:
        """Seats of a slot in the order in which they are sold."""
        return range(8 * width)


class PartitionModel:
    """One partition: its guards, courses, parts, holds, stock and outbox."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.guards: dict[tuple[bytes, int], GuardState] = {}
        self.courses: dict[CourseId, CourseState] = {}
        self.parts: dict[codec.PartId, PartState] = {}
        self.holds: dict[CourseId, int] = {}
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
            b"y": self._confirm,
            b"w": self._extend,
            b"v": self._move,
            b"d": self._move,
            b"e": self._expire,
            b"a": self._aside,
            b"k": self._keep,
            b"q": self._quit,
            b"o": self._open,
            b"g": self._read_guard,
            b"l": self._read_course,
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

    def _write_guard(self, course: CourseId, state: str, location: int, op: bytes) -> None:
        before = self.guards.get((course.person, course.kind))
        memories = before.memories if before else []
        guard = GuardState(state, course.generation, location, op, memories)
        self.guards[course.person, course.kind] = guard

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
        self._write_guard(CourseId(person, kind, generation), "c", location, op)
        return b"+" + codec.GENERATION.pack(generation)

    def _join(self, guard: GuardState, op: bytes) -> None:
        """The op that claimed comes once more: from now on several takes may be on their way."""
        if guard.state == "c" and guard.op == op:
            guard.state = "j"

    def _guard_of(self, course: CourseId, states: str) -> GuardState | None:
        guard = self.guards.get((course.person, course.kind))
        if guard is None or guard.generation != course.generation or guard.state not in states:
            return None
        return guard

    def _unclaim(self, body: bytes) -> bytes:
        person, kind, generation, buried = codec.UNCLAIM.unpack(body)
        guard = self._guard_of(CourseId(person, kind, generation), "cj" if buried else "c")
        if guard is None:
            return b"-"
        self._let_go(guard, remember=False)
        return b"+"

    def _settle(self, body: bytes) -> bytes:
        guard = self._guard_of(CourseId(*codec.COURSE.unpack(body)), "cjb")
        if guard is None:
            return b"-"
        before, guard.state = guard.state, "b"
        return b"=" if before == "b" else b"+"

    def _free(self, body: bytes) -> bytes:
        guard = self._guard_of(CourseId(*codec.COURSE.unpack(body)), "cjb")
        if guard is None:
            return b"-"
        self._let_go(guard, remember=True)
        return b"+"

    def _read_guard(self, body: bytes) -> bytes:
        guard = self.guards.get(codec.guard_field(body))
        return b"V" + guard.record() if guard else b"-"

    # Holds -----------------------------------------------------------------------------------------------

    def _is_due(self, course: CourseId) -> bool:
        return self.courses[course].state == "h" and self.holds[course] <= self.now_ms

    def _is_running(self, course: CourseId) -> bool:
        known = self.courses.get(course)
        return known is not None and known.state == "h" and not self._is_due(course)

    def _end(self, course: CourseId, op: bytes, act: str, draft: Draft | None = None) -> None:
        """End a live course. With a draft its seats are given back there."""
        known = self.courses[course]
        if draft is None:
            stock = Draft(self.stock)
            stock.give_back(here(known.appointments))
            self.stock = stock.stock
        if op == codec.NO_OP:
            known.revision += 1
        else:
            known.remember(op, act)
        self._tell(act, course, known.revision, op, told("-", known.appointments, "<"))
        known.state = "x"
        self.holds.pop(course, None)
        guard = self._guard_of(course, "cjb")
        if guard is not None:
            self._let_go(guard, remember=True)

    def _expire_due(self, count: int) -> int:
        pack = codec.COURSE.pack
        due = sorted((until, pack(*msgspec.structs.astuple(c))) for c, until in self.holds.items())
        over = [field for until, field in due if until <= self.now_ms][:count]
        for field in over:
            self._end(codec.course_field(field), codec.NO_OP, "e")
        return len(over)

    def _with_expiry(self, choose: Callable[[], T]) -> T:
        """Choose; holds that are over make room as long as a slot is full."""
        for _ in range(LAZY_ROUNDS):
            try:
                return choose()
            except Refusal as refusal:
                if refusal.answer[:1] != b"F" or not self._expire_due(LAZY_EXPIRIES):
                    raise
        return choose()

    def _expire(self, body: bytes) -> bytes:
        (count,) = codec.EXPIRE.unpack(body)
        return b"E" + codec.EXPIRE.pack(self._expire_due(count))

    def _members(self, packed_courses: bytes, op: bytes, act: str) -> tuple[list[CourseId], bool]:
        courses, done = [CourseId(*fields) for fields in codec.COURSE.iter_unpack(packed_courses)], False
        for number, course in enumerate(courses, 1):
            known = self.courses.get(course)
            if known is None or known.state == "t":
                raise Refusal(b"G" + bytes([number]))
            try:
                past = known.knows(op)
            except Refusal:
                raise Refusal(b"K" + bytes([number])) from None
            if past is not None and past[0] != act:
                raise Refusal(b"K" + bytes([number]))
            done = done or past is not None
        return courses, done

    def _confirm(self, body: bytes) -> bytes:
        op, _ = codec.CONFIRM.unpack_from(body)
        courses, done = self._members(body[codec.CONFIRM.size :], op, "c")
        if done:
            return b"Y"
        for number, course in enumerate(courses, 1):
            if self.courses[course].state != "b" and not self._is_running(course):
                raise Refusal(b"G" + bytes([number]))
        for course in courses:
            known = self.courses[course]
            if known.state == "h":
                known.remember(op, "c")
                self._tell("c", course, known.revision, op, ())
                known.state = "b"
                del self.holds[course]
        return b"Y"

    def _extend(self, body: bytes) -> bytes:
        op, hold_ms, extensions_max, _ = codec.EXTEND.unpack_from(body)
        courses, done = self._members(body[codec.EXTEND.size :], op, "w")
        if done:
            return b"W" + codec.UNTIL.pack(self.holds.get(courses[0], 0))
        for number, course in enumerate(courses, 1):
            if not self._is_running(course):
                raise Refusal(b"G" + bytes([number]))
            extended = [act for _, act, _, _ in self.courses[course].changes if act == "w"]
            if len(extended) >= extensions_max:
                raise Refusal(b"M" + bytes([number]))
        until = self.now_ms + hold_ms
        for course in courses:
            known = self.courses[course]
            known.remember(op, "w")
            self._tell("w", course, known.revision, op, (), (until, known.vaccine, known.day))
            self.holds[course] = until
        return b"W" + codec.UNTIL.pack(until)

    # Courses ---------------------------------------------------------------------------------------------

    def _take(self, body: bytes) -> bytes:
        group = group_of(body)
        courses = [CourseId(m.person, m.kind, m.number) for m in group.members]
        begun = 0
        for number, course in enumerate(courses, 1):
            known = self.courses.get(course)
            if known is not None and known.state == "t":
                raise Refusal(b"T" + bytes([number]))
            if known is not None and known.op != group.op.id:
                raise Refusal(b"K" + bytes([number]))
            begun += known is not None
        if begun == len(courses):
            return self._begun(courses)
        if begun:
            raise Refusal(b"T\1")
        self._in_time(group.not_after_ms)
        self._begin(group, courses)
        for course in courses:
            guard = self._guard_of(course, "cj")
            if guard is not None:
                guard.state = "b"
        return self._begun(courses)

    def _book(self, body: bytes) -> bytes:
        group = group_of(body)
        courses = []
        for number, member in enumerate(group.members, 1):
            try:
                guard = self.guards.get((member.person, member.kind))
                generation = self._next_generation(guard, group.op.id)
            except Refusal as refusal:
                code = refusal.answer[:1]
                if code == b"=":
                    return self._booked_before(group)
                if code == b"L":
                    self._refuse_live(member, number, refusal.answer)
                raise Refusal(code + bytes([number])) from None
            courses.append(CourseId(member.person, member.kind, generation))
            if courses[-1] in self.courses:
                raise Refusal(b"T" + bytes([number]))
        self._in_time(group.not_after_ms)
        self._begin(group, courses)
        for course, member in zip(courses, group.members, strict=True):
            self._write_guard(course, "b", member.number, group.op.id)
        return self._begun(courses)

    def _refuse_live(self, member: codec.Member, number: int, answer: bytes) -> None:
        live = codec.live(answer[1:])
        course = CourseId(member.person, member.kind, live.generation)
        known = self.courses.get(course)
        is_live = known is not None and (known.state == "b" or self._is_running(course))
        state = b"v" if is_live else live.state
        raise Refusal(b"L" + bytes([number]) + codec.LIVE.pack(state, live.generation, live.location))

    def _booked_before(self, group: codec.Group) -> bytes:
        courses = []
        for number, member in enumerate(group.members, 1):
            guard = self.guards.get((member.person, member.kind))
            known = [(guard.op, guard.generation, guard.location)] if guard and guard.state != "f" else []
            key = group.op.key
            past = next((m for m in known + (guard.memories if guard else []) if m[0][:8] == key), None)
            if past is None or past[0] != group.op.id:
                raise Refusal(b"T" + bytes([number]))
            course = CourseId(member.person, member.kind, past[1])
            if course not in self.courses or self.courses[course].state == "t":
                raise Refusal(b"L" + bytes([number]) + codec.LIVE.pack(b"c", past[1], past[2]))
            courses.append(course)
        return self._begun(courses)

    def _begun(self, courses: Sequence[CourseId]) -> bytes:
        answer = b"B" + codec.UNTIL.pack(self.holds.get(courses[0], 0))
        for course in courses:
            had = self.courses[course].began_with()
            taken = struct.pack(f"<{len(here(had))}H", *(a.seat for a in here(had)))
            answer += codec.GENERATION.pack(course.generation) + taken
            answer += packed(a for a in had if a.where != HERE)
        return answer

    def _begin(self, group: codec.Group, courses: list[CourseId]) -> None:
        draft, taken = self._with_expiry(lambda: self._choose(group))
        until = self.now_ms + group.hold_ms if group.hold_ms else 0
        if group.instead is not None:
            self._end(group.instead, group.op.id, "x", draft)
        self.stock = draft.stock
        state = "h" if until else "b"
        for course, member, seats_here in zip(courses, group.members, taken, strict=True):
            entries = told("+", seats_here, "") + told("", member.parts, ">")
            tail = (until, member.given_vaccine, member.given_day)
            self._tell(state, course, 1, group.op.id, entries, tail)
            self.courses[course] = CourseState(
                state,
                group.op.id,
                seats_here + member.parts,
                1,
                member.given_vaccine,
                member.given_day,
            )
            if until:
                self.holds[course] = until

    def _choose(self, group: codec.Group) -> tuple[Draft, list[tuple[Appointment, ...]]]:
        draft, taken = Draft(self.stock), []
        if group.instead is not None:
            if not self._is_running(group.instead):
                raise Refusal(b"G")
            draft.give_back(here(self.courses[group.instead].appointments))
        for number, member in enumerate(group.members, 1):
            try:
                seats_here = draft.take(member.wishes, 1)
            except Refusal as refusal:
                raise Refusal(refusal.answer[:1] + bytes([number]) + refusal.answer[1:]) from None
            doses = [a.dose for a in seats_here + member.parts]
            if not seats_here or len(set(doses)) < len(doses):
                again = next((dose for at, dose in enumerate(doses) if dose in doses[:at]), 0)
                raise Refusal(b"N" + bytes([number, again if seats_here else 0]))
            taken.append(seats_here)
        return draft, taken

    def _move(self, body: bytes) -> bytes:
        person, kind, generation, op, revision, not_after, ends, count, _ = codec.MOVE.unpack_from(body)
        course = CourseId(person, kind, generation)
        known = self.courses.get(course)
        if known is None or known.state == "t":
            return b"-"
        past = known.knows(op)
        if past is not None:
            if past[0] != "v":
                raise Refusal(b"K")
            return b"V" + codec.REVISION.pack(past[1]) + packed(past[2])
        if known.state != "b":
            return b"-"
        if known.revision != revision:
            return b"R" + codec.REVISION.pack(known.revision)
        self._in_time(not_after)
        cut = codec.MOVE.size + codec.WISH.size * count
        wishes = tuple(codec.iter_wishes(body[codec.MOVE.size : cut]))
        joined = codec.appointments(body[cut:])
        draft, taken = self._with_expiry(lambda: self._draft_of(wishes, revision + 1))
        ended = [a for a in known.appointments if ends >> (a.dose - 1) & 1]
        after = (*(a for a in known.appointments if a not in ended), *taken, *joined)
        doses = [a.dose for a in after]
        if len(set(doses)) < len(doses) or not doses:
            raise Refusal(b"N" + bytes([next((d for at, d in enumerate(doses) if d in doses[:at]), 0)]))
        draft.give_back(here(ended))
        if not any(act == "b" for _, act, _, _ in known.changes):
            known.changes = [*known.changes, (known.op, "b", 1, known.appointments)]
        known.appointments = after
        known.remember(op, "v", after)
        entries = told("+", taken, "") + told("", joined, ">") + told("-", here(ended), "")
        entries += told("", [a for a in ended if a.where != HERE], "<")
        self._tell("v", course, known.revision, op, entries)
        self.stock = draft.stock
        return b"V" + codec.REVISION.pack(known.revision) + packed(after)

    def _draft_of(self, wishes: Iterable[Wish], revision: int) -> tuple[Draft, tuple[Appointment, ...]]:
        draft = Draft(self.stock)
        return draft, draft.take(wishes, revision)

    def _resolve(self, body: bytes) -> bytes:
        *fields, revision = codec.RESOLVE.unpack(body)
        course = CourseId(*fields)
        known = self.courses.setdefault(course, CourseState("t"))
        if known.state == "t":
            return b"T"
        if known.state == "h" and self._is_due(course):
            self._end(course, codec.NO_OP, "e")
        if known.state == "x":
            return b"X"
        if known.revision == revision:
            known.revision += 1
        return b"B" + known.record()

    def _cancel(self, body: bytes) -> bytes:
        person, kind, generation, op = codec.CANCEL.unpack(body)
        course = CourseId(person, kind, generation)
        known = self.courses.get(course)
        if known is None or known.state == "t":
            return b"-"
        past = known.knows(op)
        if past is not None and past[0] != "x":
            raise Refusal(b"K")
        if known.state != "x":
            self._end(course, op, "x")
        return b"X" + packed(known.appointments)

    def _read_course(self, body: bytes) -> bytes:
        course = codec.course_field(body)
        known = self.courses.get(course)
        if known is None:
            return b"-"
        return b"V" + codec.UNTIL.pack(self.holds.get(course, 0)) + known.record()

    # Parts -----------------------------------------------------------------------------------------------

    def _aside(self, body: bytes) -> bytes:
        person, kind, generation, revision, op, home, not_after, _ = codec.ASIDE.unpack_from(body)
        course = CourseId(person, kind, generation)
        wishes = tuple(codec.iter_wishes(body[codec.ASIDE.size :]))
        parts = [codec.PartId(course, wish.dose, revision) for wish in wishes]
        known = [self.parts[part] for part in parts if part in self.parts]
        for part in known:
            if part.state == "x":
                raise Refusal(b"T")
            if part.op != op:
                raise Refusal(b"K")
        if len(known) == len(parts) > 0:
            return b"A" + struct.pack(f"<{len(known)}H", *(part.appointment.seat for part in known))
        self._in_time(not_after)
        draft, taken = self._with_expiry(lambda: self._draft_of(wishes, revision))
        doses = [a.dose for a in taken]
        if len(set(doses)) < len(doses) or not doses:
            raise Refusal(b"N" + bytes([next((d for at, d in enumerate(doses) if d in doses[:at]), 0)]))
        self._tell("a", course, revision, op, of_part("+", taken, home))
        for identity, appointment in zip(parts, taken, strict=True):
            self.parts[identity] = PartState("s", home, op, appointment)
        self.stock = draft.stock
        return b"A" + struct.pack(f"<{len(taken)}H", *(a.seat for a in taken))

    def _keep(self, body: bytes) -> bytes:
        part = self.parts.get(codec.part_id(body))
        if part is None or part.state == "x":
            return b"-"
        before, part.state = part.state, "b"
        return b"=" if before == "b" else b"+"

    def _quit(self, body: bytes) -> bytes:
        identity = codec.part_id(body)
        part = self.parts.get(identity)
        if part is None or part.state == "x":
            return b"-"
        draft = Draft(self.stock)
        draft.give_back([part.appointment])
        entries = of_part("-", [part.appointment], part.home)
        self._tell("r", identity.course, identity.revision, part.op, entries)
        part.state, self.stock = "x", draft.stock
        return b"+"

    # Both ------------------------------------------------------------------------------------------------

    def _open(self, body: bytes) -> bytes:
        session, width = codec.OPEN.unpack_from(body)
        if session in self.stock:
            return b"="
        self.stock[session] = (width, bytearray(body[codec.OPEN.size :]))
        return b"+"

    def _in_time(self, not_after_ms: int) -> None:
        if self.now_ms > not_after_ms:
            raise Refusal(b"D")

    def _tell(
        self,
        act: str,
        course: CourseId,
        revision: int,
        op: bytes,
        entries: tuple[codec.Entry, ...],
        tail: tuple[int, int, int] = (0, 0, 0),
    ) -> None:
        event = codec.Event(act.encode(), self.now_ms, course, revision, op, entries, *tail)
        self.events.append(codec.pack_event(event))


def here(appointments: Iterable[Appointment]) -> tuple[Appointment, ...]:
    """Those in the course's home."""
    return tuple(a for a in appointments if a.where == HERE)


def packed(appointments: Iterable[Appointment]) -> bytes:
    """As they stand in records and answers."""
    return b"".join(
        codec.APPOINTMENT.pack(a.dose, a.where, a.revision, a.session, a.slot, a.seat) for a in appointments
    )


def told(verb: str, appointments: Iterable[Appointment], elsewhere: str) -> tuple[codec.Entry, ...]:
    """Entries with a verb for what is here, then with one for what is elsewhere."""
    all_of_them = list(appointments)
    near = [codec.Entry(verb.encode(), a) for a in all_of_them if a.where == HERE]
    return (*near, *(codec.Entry(elsewhere.encode(), a) for a in all_of_them if a.where != HERE))


def of_part(verb: str, appointments: Iterable[Appointment], home: int) -> tuple[codec.Entry, ...]:
    """Entries of a part's own events: `where` names the home."""
    return tuple(codec.Entry(verb.encode(), msgspec.structs.replace(one, where=home)) for one in appointments)


def group_of(body: bytes) -> codec.Group:
    """Unpack a group."""
    op, not_after, hold_ms, person, kind, generation, count = codec.GROUP.unpack_from(body)
    members, at = [], codec.GROUP.size
    for _ in range(count):
        who, what, number, vaccine, day, wishes, parts = codec.MEMBER.unpack_from(body, at)
        cut = at + codec.MEMBER.size + codec.WISH.size * wishes
        end = cut + codec.APPOINTMENT.size * parts
        wished = tuple(codec.iter_wishes(body[at + codec.MEMBER.size : cut]))
        joined = codec.appointments(body[cut:end])
        members.append(codec.Member(who, what, number, wished, joined, vaccine, day))
        at = end
    instead = CourseId(person, kind, generation) if kind else None
    return codec.Group(Op(op[:8], op[8:]), not_after, tuple(members), hold_ms, instead)
