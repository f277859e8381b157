"""An auditor that knows the rules of booking and nothing of Redis or Lua.

It is told what was asked, what was answered and what the outboxes told, in the order in which it happened,
and says when that breaks a rule. Afterwards its picture of the country must be the one in Redis.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec

from engine.domain.course import HERE, Appointment, CourseId, Wish
from engine.inventory import codec
from tests.world import Location

MEMORIES_MAX = 4
SUCCESSES = {
    b"b": b"B",
    b"t": b"B",
    b"v": b"V",
    b"d": b"V",
    b"y": b"Y",
    b"w": b"W",
    b"x": b"X",
    b"a": b"A",
}
# Events that an operation may emit, beside the end of holds that were over.
CAUSES = {
    b"b": b"bt",
    b"h": b"bt",
    b"c": b"y",
    b"w": b"w",
    b"v": b"vd",
    b"x": b"xbt",
    b"e": b"btvawer",
    b"a": b"a",
    b"r": b"q",
}
Seat = tuple[int, int, int]


class Held(msgspec.Struct):
    """A course as the auditor remembers it. ``begun``: what it began with."""

    id: CourseId
    op: bytes
    home: int
    begun: tuple[Appointment, ...]
    appointments: tuple[Appointment, ...]
    state: str
    until_ms: int
    revision: int = 1

    @property
    def live(self) -> bool:
        """Whether it has its seats."""
        return self.state in "bh"

    def running(self, now_ms: int) -> bool:
        """Whether it is a hold whose time is not over."""
        return self.state == "h" and self.until_ms > now_ms


class Asked(msgspec.Struct, frozen=True):
    """One operation as it was executed, and the events that it emitted."""

    partition: int
    now_ms: int
    record: bytes
    answer: bytes
    events: Sequence[codec.Event]

    @property
    def code(self) -> bytes:
        """Of the operation."""
        return self.record[:1]


class Auditor:
    """Who holds which seat, which op did what, and what was answered."""

    def __init__(self, locations: tuple[Location, ...]) -> None:
        self.courses: dict[CourseId, Held] = {}
        # By partition and part: two ops may set seats aside for one revision in two partitions; one counts.
        self.parts: dict[tuple[int, codec.PartId], Appointment] = {}
        self.given_back: set[tuple[int, codec.PartId]] = set()
        self.answers: dict[tuple[object, ...], bytes] = {}
        self.free: dict[tuple[int, int], set[int]] = {
            (session, slot): set(range(location.lines))
            for location in locations
            for session in location.sessions
            for slot in range(location.slots)
        }

    # What is the case ------------------------------------------------------------------------------------

    def live_course(self, person: bytes, kind: int) -> Held | None:
        """The person's one live course of a kind."""
        live = [h for h in self.courses.values() if h.live and (h.id.person, h.id.kind) == (person, kind)]
        assert len(live) <= 1, f"booked twice: {live}"
        return live[0] if live else None

    def begun_by(self, person: bytes, kind: int, op: bytes) -> Held | None:
        """The course that this op began, if it is recent enough to be promised the old answer."""
        mine = sorted(
            (held for held in self.courses.values() if (held.id.person, held.id.kind) == (person, kind)),
            key=lambda held: held.id.generation,
        )
        return next((held for held in reversed(mine[-MEMORIES_MAX:]) if held.op == op), None)

    def counts(self, where: int, part: codec.PartId) -> bool:
        """Whether the part is one of its live course's appointments."""
        held = self.courses.get(part.course)
        return held is not None and held.live and self.parts.get((where, part)) in held.appointments

    def masks(self) -> dict[int, dict[int, set[int]]]:
        """Session → slot → free seats."""
        sessions: defaultdict[int, dict[int, set[int]]] = defaultdict(dict)
        for (session, slot), seats in self.free.items():
            sessions[session][slot] = seats
        return sessions

    def owned(self) -> dict[Seat, object]:
        """Every seat that somebody has."""
        owners: dict[Seat, object] = {}
        for held in self.courses.values():
            for a in held.appointments if held.live else ():
                if a.where == HERE:
                    assert owners.setdefault((a.session, a.slot, a.seat), held.id) == held.id, "two owners"
        for part, a in self.parts.items():
            assert owners.setdefault((a.session, a.slot, a.seat), part) == part, "two owners"
        return owners

    # What happens ----------------------------------------------------------------------------------------

    def told(self, asked: Asked) -> None:
        """Judge one operation."""
        assert asked.answer[:1] != b"!", f"an operation in error: {asked.answer!r}"
        for event in asked.events:
            assert asked.code in CAUSES[event.type], f"{asked.code!r} emitted {event.type!r}"
            assert event.at_ms == asked.now_ms, "an event at another time"
            self._apply(asked, event)
        own = [event for event in asked.events if event.type != b"e"]
        success = SUCCESSES.get(asked.code)
        if success is not None and asked.answer[:1] != success:
            assert not own, f"refused with {asked.answer[:1]!r}, and wrote {own}"
            self._refused(asked)
        elif asked.code in b"bt":
            self._begun(asked, own)
        elif asked.code in b"vd":
            self._moved(asked, own)
        elif asked.code in b"yw":
            self._changed_holds(asked, own)
        elif asked.code == b"x":
            held = self.courses[CourseId(*codec.CANCEL.unpack(asked.record[1:])[:3])]
            assert not held.live, "told cancelled, but live"
            assert codec.appointments(asked.answer[1:]) == held.appointments, "told other seats than it had"

    def _apply(self, asked: Asked, event: codec.Event) -> None:
        verbs = [entry.verb for entry in event.entries]
        gives = [at for at, verb in enumerate(verbs) if verb in b"-<"]
        takes = [at for at, verb in enumerate(verbs) if verb in b"+>"]
        assert not gives or not takes or max(takes) < min(gives), "given back before it was taken"
        if event.type in (b"a", b"r"):
            self._part(asked.partition, event)
        elif event.type in codec.BEGINS:
            self._begin(asked, event)
        else:
            self._change(asked, self.courses[event.course], event)

    def _take(self, appointments: Iterable[Appointment]) -> None:
        for a in appointments:
            assert a.seat in self.free[a.session, a.slot], f"seat sold twice: {a}"
            self.free[a.session, a.slot].remove(a.seat)

    def _give(self, appointments: Iterable[Appointment]) -> None:
        for a in appointments:
            assert a.seat not in self.free[a.session, a.slot], f"given back, though free: {a}"
            self.free[a.session, a.slot].add(a.seat)

    def _part(self, where: int, event: codec.Event) -> None:
        for entry in event.entries:
            a = entry.appointment
            part = (where, codec.PartId(event.course, a.dose, event.revision))
            if event.type == b"a":
                assert part not in self.parts, "set aside twice"
                assert part not in self.given_back, "set aside again after it was given back"
                self._take([a])
                self.parts[part] = a
            else:
                assert not self.counts(*part), f"a part that counts was given back: {part}"
                had = self.parts.pop(part)
                assert (had.session, had.slot, had.seat) == (a.session, a.slot, a.seat), "another seat"
                self.given_back.add(part)
                self._give([a])

    def _joined(self, event: codec.Event) -> tuple[Appointment, ...]:
        """Parts that count from here on: each is set aside, for this revision. As the auditor has them."""
        for a in event.seats(codec.JOINED):
            part = (a.where, codec.PartId(event.course, a.dose, event.revision))
            mine = self.parts.get(part)
            assert mine is not None, f"counts a part that is not there: {a}"
            assert (mine.session, mine.slot, mine.seat) == (a.session, a.slot, a.seat), "counts another seat"
            assert a.revision == event.revision, "brought by another revision"
            self.parts[part] = a
        return event.seats(codec.JOINED)

    def _begin(self, asked: Asked, event: codec.Event) -> None:
        course = event.course
        assert course not in self.courses, "begun twice"
        assert self.live_course(course.person, course.kind) is None, "a second live course"
        known = [c.generation for c in self.courses if (c.person, c.kind) == (course.person, course.kind)]
        assert all(generation < course.generation for generation in known), "a generation that was over"
        taken = event.seats(codec.TAKEN)
        self._take(taken)
        appointments = taken + self._joined(event)
        doses = [a.dose for a in appointments]
        assert len(set(doses)) == len(doses) > 0, f"a dose twice, or none: {doses}"
        is_hold = event.type == b"h"
        assert (event.until_ms > asked.now_ms) if is_hold else event.until_ms == 0, "ends at a wrong time"
        self.courses[course] = Held(
            course,
            event.op,
            asked.partition,
            appointments,
            appointments,
            "h" if is_hold else "b",
            event.until_ms,
        )

    def _change(self, asked: Asked, held: Held, event: codec.Event) -> None:
        assert held.live, f"{event.type!r} of a course that is over"
        assert held.home == asked.partition, "a course was changed away from its home"
        assert event.revision > held.revision, "a revision that was over"
        held.revision = event.revision
        gone = event.seats(codec.RELEASED) + event.seats(codec.LEFT)
        if event.type in codec.ENDS:
            assert sorted(gone, key=repr) == sorted(held.appointments, key=repr), "ended with other seats"
            assert event.type == b"x" or not held.running(asked.now_ms), "expired before its time"
            assert event.type == b"x" or held.state == "h", "a booked course expired"
            self._give(event.seats(codec.RELEASED))
            held.state = "x"
        elif event.type == b"v":
            self._move(held, event, gone)
        else:
            assert held.running(asked.now_ms), f"{event.type!r} after the hold was over"
            assert not event.entries, "seats changed"
            held.state, held.until_ms = ("b", 0) if event.type == b"c" else ("h", event.until_ms)

    def _move(self, held: Held, event: codec.Event, gone: tuple[Appointment, ...]) -> None:
        assert held.state == "b", "a course was moved that is not booked"
        assert set(gone) <= set(held.appointments), "gives back what it does not have"
        taken = event.seats(codec.TAKEN)
        self._take(taken)
        assert all(a.revision == event.revision for a in taken), "brought by another revision"
        left = tuple(a for a in held.appointments if a not in gone) + taken + self._joined(event)
        doses = [a.dose for a in left]
        assert len(set(doses)) == len(doses) > 0, f"a dose twice, or none: {doses}"
        self._give(event.seats(codec.RELEASED))
        held.appointments = left

    # What is answered ------------------------------------------------------------------------------------

    def _same(self, answer: bytes, *key: object) -> None:
        """Once told, told for ever."""
        known = self.answers.setdefault(key, answer)
        assert known == answer, f"another answer than before: {known!r}, {answer!r}"

    def _begun(self, asked: Asked, own: Sequence[codec.Event]) -> None:
        group = group_of(asked.record[1:])
        until_ms, rest = codec.begun(asked.answer[1:])
        courses, at = [], 0
        for member in group.members:
            (generation,) = codec.GENERATION.unpack_from(rest, at)
            held = self.courses[CourseId(member.person, member.kind, generation)]
            courses.append(held)
            assert held.op == group.op, "the course of another op"
            at += codec.GENERATION.size
            near = [a for a in held.begun if a.where == HERE]
            assert [(a.dose, a.session, a.slot) for a in near] == [
                (wish.dose, wish.session, wish.slot) for wish in member.wishes
            ], "other seats than were wished for"
            seats = codec.seats_of(rest[at : at + 2 * len(member.wishes)])
            assert seats == tuple(a.seat for a in near), "told other seats than were taken"
            at += 2 * len(member.wishes)
            size = codec.APPOINTMENT.size * (len(held.begun) - len(near))
            parts = codec.appointments(rest[at : at + size])
            assert parts == tuple(a for a in held.begun if a.where != HERE), "told other parts"
            at += size
        assert at == len(rest), "told of somebody else"
        first = courses[0]
        assert until_ms == (first.until_ms if first.state == "h" else 0), "told another time"
        began = [event.course for event in own if event.type in codec.BEGINS]
        assert began in ([], [held.id for held in courses]), "some of a group"
        if began:
            ended = [event.course for event in own if event.type == b"x"]
            assert ended == ([group.instead] if group.instead else []), "another hold ended than made room"

    def _moved(self, asked: Asked, own: Sequence[codec.Event]) -> None:
        person, kind, generation, op, *_ = codec.MOVE.unpack_from(asked.record, 1)
        course = CourseId(person, kind, generation)
        self._same(asked.answer, "v", course, op)
        if own:
            (revision,) = codec.REVISION.unpack_from(asked.answer, 1)
            held = self.courses[course]
            assert revision == held.revision, "told another revision"
            assert codec.appointments(asked.answer[3:]) == held.appointments, "told other seats"

    def _changed_holds(self, asked: Asked, own: Sequence[codec.Event]) -> None:
        op, courses = _op_and_courses(asked.record)
        if asked.code == b"y":
            assert own or (op, b"y") in self.answers or all(self._was_booked(c) for c in courses), (
                "told confirmed, but is not"
            )
            booked = {event.course for event in own}
            assert not own or all(c in booked or self._was_booked(c) for c in courses), "some of a group"
        elif own:
            assert [event.course for event in own] == courses, "some of a group"
        if own:
            self.answers[op, asked.code] = asked.answer[:1]

    def _was_booked(self, course: CourseId) -> bool:
        return self.courses[course].state == "b"

    def _refused(self, asked: Asked) -> None:
        code = asked.answer[:1]
        if asked.code in b"yw":
            op, courses = _op_and_courses(asked.record)
            assert (op, asked.code) not in self.answers, "the same op, and another answer"
            if code == b"G":
                held = self.courses.get(courses[asked.answer[1] - 1])
                assert held is None or not held.running(asked.now_ms), "refused, though it is held"
                assert held is None or asked.code == b"w" or held.state != "b", "refused, though it is booked"
        elif asked.code in b"vd":
            person, kind, generation, op, *_ = codec.MOVE.unpack_from(asked.record, 1)
            assert ("v", CourseId(person, kind, generation), op) not in self.answers, "moved before"
            if code == b"F":
                cut = codec.MOVE.size + 1
                count = codec.MOVE.unpack_from(asked.record, 1)[7]
                wishes = codec.iter_wishes(asked.record[cut : cut + codec.WISH.size * count])
                self._full(asked, list(wishes), asked.answer[1])
        elif asked.code == b"a" and code == b"F":
            self._full(asked, list(codec.iter_wishes(asked.record[1 + codec.ASIDE.size :])), asked.answer[1])
        elif asked.code in b"bt":
            group = group_of(asked.record[1:])
            if code == b"G":
                held = self.courses.get(group.instead) if group.instead else None
                assert held is None or not held.running(asked.now_ms), "refused, though there is room"
            if code == b"F":
                number = asked.answer[1]
                before = [wish for member in group.members[: number - 1] for wish in member.wishes]
                mine = group.members[number - 1].wishes
                at = [wish.dose for wish in mine].index(asked.answer[2])
                room = self.courses[group.instead].appointments if group.instead else ()
                self._full(asked, [*before, *mine[: at + 1]], asked.answer[2], room)

    def _full(self, asked: Asked, wishes: list[Wish], dose: int, room: tuple[Appointment, ...] = ()) -> None:
        """There is no seat for the last wish with this dose, after those before it."""
        at = max(at for at, wish in enumerate(wishes) if wish.dose == dose)
        place = (wishes[at].session, wishes[at].slot)
        wanted = [wish for wish in wishes[: at + 1] if (wish.session, wish.slot) == place]
        freed = [a for a in room if (a.session, a.slot) == place and a.where == HERE]
        assert len(self.free[place]) + len(freed) < len(wanted), f"refused, though free: {place}"
        over = [
            held
            for held in self.courses.values()
            if held.home == asked.partition and held.state == "h" and not held.running(asked.now_ms)
        ]
        assert not over, f"refused as full, though a hold is over: {over}"


class Member(msgspec.Struct, frozen=True):
    """One of a group."""

    person: bytes
    kind: int
    wishes: tuple[Wish, ...]


class Group(msgspec.Struct, frozen=True):
    """Who begins together."""

    op: bytes
    instead: CourseId | None
    members: tuple[Member, ...]


def group_of(body: bytes) -> Group:
    """What a ``book`` or ``take`` asks for."""
    op, _, _, *instead, count = codec.GROUP.unpack_from(body)
    members, at = [], codec.GROUP.size
    for _ in range(count):
        person, kind, _, _, _, wishes, parts = codec.MEMBER.unpack_from(body, at)
        at += codec.MEMBER.size
        wished = body[at : at + codec.WISH.size * wishes]
        members.append(Member(person, kind, tuple(codec.iter_wishes(wished))))
        at += len(wished) + codec.APPOINTMENT.size * parts
    return Group(op, CourseId(*instead) if instead[1] else None, tuple(members))


def _op_and_courses(record: bytes) -> tuple[bytes, list[CourseId]]:
    head = codec.CONFIRM if record[:1] == b"y" else codec.EXTEND
    op = head.unpack_from(record, 1)[0]
    return op, [CourseId(*fields) for fields in codec.COURSE.iter_unpack(record[1 + head.size :])]
