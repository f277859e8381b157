"""One history: people, processes and a network under a scheduler, against the model of the scripts.

The scheduler may at every step crash a process before or after its call, lose the reply, keep a copy for
later, deliver it twice or out of order, move a clock, repeat the consumer, let the sweep decide what is in
doubt. The auditor (``tests/auditor.py``) judges every answer. Same seed, same trace, same hash.

``Chance`` is all that the scheduler needs: a seeded generator here, hypothesis in ``tests/stateful/``.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from engine import limits
from engine.booking.aside import Away
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.hold import Extension, confirm, extend
from engine.booking.move import Change, move, settle_part
from engine.booking.outcomes import (
    Booked,
    Cancelled,
    Confirmed,
    InDoubt,
    Moved,
    MoveOutcome,
    Reason,
    Refused,
)
from engine.booking.read import read_course
from engine.booking.resolve import resolve
from engine.booking.steps import Call, Placement, Steps
from engine.domain import seats
from engine.domain.course import HERE, CourseId, Kind, Op, Wish
from engine.errors import EngineFault, OutcomeUnknown, PartitionClosed
from engine.inventory import codec
from engine.outbox.settle import settlements
from engine.redis.keyspace import Keyspace
from tests.auditor import Asked, Auditor, Held
from tests.simulation.model import PartitionModel
from tests.world import DOSE_2_SESSIONS, Location, person_key

# Far in the future: the real clock of a server that replays the trace never overtakes the history's.
BEGINNING_MS = 10**14
LOCATIONS = (Location(1, 2, 1), Location(2, 1, 2), Location(3, 1, 1))
PEOPLE, OFFERS, FIRST_OFFER = 4, 2, 100
HOLD_MS, EXTENSIONS_MAX = 1_000, 2
ACTIONS_MAX = 60
TWINS_AMONG = 2
# What can happen next; those more often that are to happen more often.
ACTIONS = (
    *["begin_booking"] * 5,
    *["begin_twin"] * 2,
    "begin_offer",
    *["begin_change"] * 3,
    *["begin_confirming"] * 2,
    "begin_extending",
    "begin_cancelling",
    "book_undisturbed",
    *["go_on"] * 14,
    "finish_one",
    "die",
    "fault",
    "reply_lost",
    *["delay"] * 2,
    "duplicate",
    *["deliver"] * 2,
    *["consume"] * 3,
    "repeat_consumer",
    "expire",
    "sweep_guard",
    "sweep_part",
    "move_clock",
)
ALWAYS = ("begin_booking", "go_on")
T = TypeVar("T")


class Chance(Protocol):
    """What decides what happens next."""

    def choice(self, among: Sequence[T], /) -> T:
        """One of them."""

    def randrange(self, stop: int, /) -> int:
        """A number from 0 on, below ``stop``."""


class Entry(msgspec.Struct, frozen=True):
    """One executed operation: where, at what clock, what was asked and what was answered."""

    partition: int
    now_ms: int
    record: bytes
    answer: bytes


class Process(msgspec.Struct, eq=False):
    """A use case about to make ``call``; ``check`` judges its outcome."""

    steps: Steps[Any]
    call: Call
    check: Callable[[Any], None]


class History:
    """Runs one history; afterwards ``trace`` and ``partitions`` hold what happened and what is left."""

    def __init__(self, chance: Chance, partitions: int) -> None:
        self.chance = chance
        self.keyspace = Keyspace(partitions)
        self.partitions = [PartitionModel() for _ in range(partitions)]
        self.trace: list[Entry] = []
        self.auditor = Auditor(LOCATIONS)
        self.placement = Placement(self.keyspace, self._not_after)
        self._processes: list[Process] = []
        self._network: list[Process] = []
        self._consumed = [0] * partitions
        self._offset_ms = [0] * partitions
        self._told: dict[tuple[object, ...], object] = {}
        self._fresh_keys = 0
        self._asked: list[Request] = []
        self._people, self._keys = PEOPLE, "abc"
        self._locations: tuple[Location, ...] = LOCATIONS

    @classmethod
    def of_seed(cls, seed: int) -> "History":
        """The history of a seed."""
        chance = random.Random(seed)
        return cls(chance, chance.choice((1, 2, 4)))

    @property
    def digest(self) -> str:
        """Hash of the whole trace."""
        whole = hashlib.sha256()
        for entry in self.trace:
            whole.update(b"%d %d " % (entry.partition, entry.now_ms) + entry.record + b">" + entry.answer)
        return whole.hexdigest()

    def run(self) -> None:
        """Play the history to its quiet end. Raises ``AssertionError`` where a rule is broken."""
        self.open()
        actions = self.focus()
        for _ in range(ACTIONS_MAX // 2 + self.chance.randrange(ACTIONS_MAX)):
            self.act(self.chance.choice(actions))
        self.quiet_end()

    def focus(self) -> tuple[str, ...]:
        """Leave out some people, places, keys and actions: what is left meets more often."""
        self._people = 1 + self.chance.randrange(PEOPLE)
        self._keys = "abc"[: 1 + self.chance.randrange(3)]
        self._locations = LOCATIONS[-1 - self.chance.randrange(len(LOCATIONS)) :]
        kept = {action: self.chance.randrange(3) > 0 for action in dict.fromkeys(ACTIONS)}
        return tuple(action for action in ACTIONS if kept[action] or action in ALWAYS)

    def act(self, action: str) -> None:
        """Do one of ``ACTIONS``."""
        getattr(self, action)()

    # What people do --------------------------------------------------------------------------------------

    def begin_booking(self) -> None:
        """Somebody, or a household, books or holds; perhaps in the place of an offer."""
        instead = self._some([h.id for h in self.auditor.courses.values() if h.id.kind == Kind.OFFER])
        key = self.chance.choice(self._keys)
        self._begin_booking(self._request(key, instead if self.chance.randrange(3) == 0 else None))

    def begin_twin(self) -> None:
        """Somebody asks once more, with the same key."""
        if (request := self._some(self._asked[-TWINS_AMONG:])) is not None:
            self._begin_booking(request)

    def begin_offer(self) -> None:
        """Seats are held for somebody on the waitlist."""
        location = self.chance.choice(self._locations)
        offer = person_key(FIRST_OFFER + self.chance.randrange(OFFERS))
        seeker = Seeker(offer, Kind.OFFER, self._wishes(location))
        self._begin_booking(_keyed(self.chance.choice(("o", "p")), location, (seeker,), 2 * HOLD_MS))

    def begin_change(self) -> None:
        """Doses move, here or elsewhere; one is given up, or added."""
        if (held := self._some(list(self.auditor.courses.values()))) is None:
            return
        ends = frozenset(self.chance.choice(((), (1,), (2,), (1, 2))))
        doses = [dose for dose in (1, 2, 3) if (dose in ends or dose == 3) and self.chance.randrange(3)]
        wishes = []
        for dose in doses:
            location = self.chance.choice(self._locations)
            wishes.append(Away(location.id, self._wish(location, dose)))
        key = self.chance.choice(("v", "w"))
        op = Op(key.ljust(8, "-").encode(), _digest(key, held.id, ends, wishes))
        steps = self._change(held, op, ends, tuple(wishes))
        promised = (held.id, op.id) in self._told
        self._start(steps, lambda outcome: self._changed(held.id, op, outcome, promised=promised))

    def begin_confirming(self) -> None:
        """Those who began together confirm, or one of them does."""
        if (held := self._some(self._of_state("hhhbx"))) is None:
            return
        courses = self._together(held)
        op = Op(b"y%d------" % self.chance.randrange(2), _digest("y", courses))
        promised = (op.id,) in self._told
        self._start(
            confirm(courses, _location_of(held), op, self.placement),
            lambda outcome: self._held(op, outcome, promised=promised),
        )

    def begin_extending(self) -> None:
        """Those who began together ask for more time."""
        if (held := self._some(self._of_state("hhhbx"))) is None:
            return
        courses = self._together(held)
        op = Op(b"w%d------" % self.chance.randrange(4), _digest("w", courses))
        by = Extension(HOLD_MS, EXTENSIONS_MAX)
        self._start(extend(courses, _location_of(held), op, by, self.placement), lambda _: None)

    def begin_cancelling(self) -> None:
        """A course is cancelled, whatever its state."""
        if (held := self._some(list(self.auditor.courses.values()))) is None:
            return
        op = Op(b"cancel%d-" % self.chance.randrange(2), b"cancel--")
        self._start(cancel(held.id, _location_of(held), op, self.placement), self._cancelled(held.id))

    def book_undisturbed(self) -> None:
        """Nobody else moves meanwhile: the outcome is exactly what the rules say."""
        self._fresh_keys += 1
        request = self._request(f"f{self._fresh_keys}", None)
        wanted = self._expected(request)
        outcome = self._finish(book(request, self.placement))
        got = outcome.reason if isinstance(outcome, Refused) else type(outcome)
        assert got == wanted, f"undisturbed: {got} instead of {wanted}"
        self._booked(request, outcome, promised=False)

    def _request(self, key: str, instead: CourseId | None) -> Request:
        location = self.chance.choice(self._locations)
        if instead is not None:
            location = next(x for x in LOCATIONS if x.id == _location_of(self.auditor.courses[instead]))
        count = min(self._people, self.chance.choice((1, 1, 1, 2, 2, 3)))
        first = self.chance.randrange(self._people)
        seekers = tuple(self._seeker((first + n) % self._people, location) for n in range(count))
        return _keyed(key, location, seekers, self.chance.choice((0, 0, HOLD_MS)), instead)

    def _seeker(self, person: int, location: Location) -> Seeker:
        if self.chance.randrange(3):
            return Seeker(person_key(person), Kind.PRIMARY, self._wishes(location))
        other = self.chance.choice(self._locations)
        return Seeker(
            person_key(person),
            Kind.PRIMARY,
            (self._wish(location, 1),),
            (Away(other.id, self._wish(other, 2)),),
            *self.chance.choice(((0, 0), (3, 800))),
        )

    def _wishes(self, location: Location) -> tuple[Wish, ...]:
        return self._wish(location, 1), self._wish(location, 2)

    def _wish(self, location: Location, dose: int) -> Wish:
        session = location.id + (DOSE_2_SESSIONS if dose == 2 else 0)
        return Wish(dose, session, self.chance.randrange(location.slots))

    def _begin_booking(self, request: Request) -> None:
        self._asked.append(request)
        promised = self._is_promised(request)
        self._start(
            book(request, self.placement), lambda outcome: self._booked(request, outcome, promised=promised)
        )

    def _change(
        self, held: Held, op: Op, ends: frozenset[int], wishes: tuple[Away, ...]
    ) -> Steps[MoveOutcome | None]:
        course = yield from read_course(held.id, _location_of(held), self.placement)
        assert course is not None
        return (yield from move(Change(course, op, ends, wishes), self.placement))

    def _expected(self, request: Request) -> object:
        for seeker in request.seekers:
            held = self.auditor.live_course(seeker.person, seeker.kind)
            if held is not None and (held.state == "b" or held.running(self._now(held.home))):
                return Reason.ALREADY_BOOKED
        demand: dict[tuple[int, int], int] = {}
        for seeker in request.seekers:
            for wish in (*seeker.wishes, *(away.wish for away in seeker.away)):
                demand[wish.session, wish.slot] = demand.get((wish.session, wish.slot), 0) + 1
        freed = [
            (a.session, a.slot)
            for held in self.auditor.courses.values()
            if held.state == "h" and not held.running(self._now(held.home))
            for a in held.appointments
            if a.where == HERE
        ]
        room = {place: len(self.auditor.free[place]) + freed.count(place) for place in demand}
        return Booked if all(room[place] >= count for place, count in demand.items()) else Reason.FULL

    def _some(self, among: Sequence[T]) -> T | None:
        return self.chance.choice(among) if among else None

    def _of_state(self, states: str) -> list[Held]:
        return [held for state in states for held in self.auditor.courses.values() if held.state == state]

    def _together(self, held: Held) -> list[CourseId]:
        if not self.chance.randrange(4):
            return [held.id]
        courses = self.auditor.courses.values()
        return [other.id for other in courses if (other.op, other.home) == (held.op, held.home)]

    # What processes and networks do ----------------------------------------------------------------------

    def go_on(self) -> None:
        """A process makes its next call."""
        if self._processes:
            self._advance(self.chance.choice(self._processes))

    def finish_one(self) -> None:
        """A process runs to its end."""
        if self._processes:
            process = self.chance.choice(self._processes)
            while process in self._processes:
                self._advance(process)

    def die(self) -> None:
        """A process dies before its call."""
        if self._processes:
            self._processes.remove(self.chance.choice(self._processes))

    def fault(self) -> None:
        """A process hears of a fault: of a call that was not made, or whose reply was lost."""
        if not self._processes:
            return None
        process = self.chance.choice(self._processes)
        faults: tuple[EngineFault, ...] = (PartitionClosed("closed"), OutcomeUnknown("lost"))
        fault = self.chance.choice(faults)
        if isinstance(fault, OutcomeUnknown):
            self.call(process.call)
        if not process.call.awaited:
            return self._go_on(process, b"")
        try:
            process.call = process.steps.throw(fault)
        except EngineFault:
            self._processes.remove(process)
        except StopIteration as end:
            self._processes.remove(process)
            process.check(end.value)
        return None

    def reply_lost(self) -> None:
        """A process dies after its call."""
        if self._processes:
            process = self.chance.choice(self._processes)
            self._processes.remove(process)
            self.call(process.call)

    def delay(self) -> None:
        """A process dies with its call on its way."""
        if self._processes:
            process = self.chance.choice(self._processes)
            self._processes.remove(process)
            self._network.append(process)

    def duplicate(self) -> None:
        """A late copy arrives, and there are more."""
        if self._network:
            self.call(self.chance.choice(self._network).call)

    def deliver(self) -> None:
        """A late copy arrives."""
        if self._network:
            late = self.chance.choice(self._network)
            self._network.remove(late)
            self.call(late.call)

    def consume(self) -> None:
        """The consumer tells others of an event."""
        partition = self.chance.randrange(self.keyspace.partitions)
        events = self.partitions[partition].events
        if self._consumed[partition] < len(events):
            event = codec.event(events[self._consumed[partition]])
            self._consumed[partition] += 1
            self._start(self._settling(event), lambda _: None)

    def repeat_consumer(self) -> None:
        """The consumer starts over."""
        self._consumed[self.chance.randrange(self.keyspace.partitions)] = 0

    def expire(self) -> None:
        """The janitor ends holds that are over."""
        partition = self.chance.randrange(self.keyspace.partitions)
        self.call(Call(partition, codec.expire(1 + self.chance.randrange(3))))

    def sweep_guard(self) -> None:
        """The sweep resolves a claim."""
        if (guard := self._some(list(self._claimed()))) is not None:
            self._start(guard, lambda _: None)

    def sweep_part(self) -> None:
        """The sweep decides about a part in doubt."""
        if (part := self._some(list(self._in_doubt()))) is not None:
            self._start(part, lambda _: None)

    def move_clock(self) -> None:
        """Time passes for one partition."""
        partition = self.chance.randrange(self.keyspace.partitions)
        self._offset_ms[partition] += self.chance.choice((1, 500, HOLD_MS, limits.OPERATION_MS_MAX + 1))

    def _claimed(self) -> Iterator[Steps[bool]]:
        for model in self.partitions:
            for (person, kind), guard in model.guards.items():
                if guard.state in "cj":
                    live = codec.Live(b"c", guard.generation, guard.location)
                    yield resolve(person, kind, live, self.placement)

    def _in_doubt(self) -> Iterator[Steps[bool]]:
        for where, model in enumerate(self.partitions):
            for part, known in model.parts.items():
                if known.state == "s":
                    yield settle_part(part, codec.part(known.record()), where)

    def _settling(self, event: codec.Event) -> Steps[None]:
        for partition, record in settlements(event, self.keyspace):
            yield Call(partition, record)

    # Executing -------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Open every session."""
        for location in LOCATIONS:
            for session in location.sessions:
                mask = bytes(seats.all_free(location.slots, location.lines))
                record = codec.open_session(session, seats.width_of(location.lines), mask)
                self.call(Call(self.keyspace.of_location(location.id), record))

    def call(self, call: Call) -> bytes:
        """Execute one operation, and have it judged."""
        model = self.partitions[call.partition]
        model.now_ms, before = self._now(call.partition), len(model.events)
        answer = model.execute(call.record)
        self.trace.append(Entry(call.partition, model.now_ms, call.record, answer))
        events = [codec.event(event) for event in model.events[before:]]
        self.auditor.told(Asked(call.partition, model.now_ms, call.record, answer, events))
        return answer

    def _not_after(self, partition: int) -> int:
        return self._now(partition) + limits.OPERATION_MS_MAX

    def _now(self, partition: int) -> int:
        return BEGINNING_MS + self._offset_ms[partition]

    def _start(self, steps: Steps[Any], check: Callable[[Any], None]) -> None:
        try:
            self._processes.append(Process(steps, next(steps), check))
        except StopIteration as end:
            check(end.value)

    def _advance(self, process: Process) -> None:
        answer = self.call(process.call)
        self._go_on(process, answer if process.call.awaited else b"")

    def _go_on(self, process: Process, answer: bytes) -> None:
        try:
            process.call = process.steps.send(answer)
        except EngineFault:
            # It heard of a fault before, and has tidied up.
            self._processes.remove(process)
        except StopIteration as end:
            self._processes.remove(process)
            process.check(end.value)

    def _finish(self, steps: Steps[Any]) -> Any:
        try:
            call = next(steps)
            while True:
                answer = self.call(call)
                call = steps.send(answer if call.awaited else b"")
        except StopIteration as end:
            return end.value

    # What callers are told -------------------------------------------------------------------------------

    def _promised(self, outcome: object, *key: object) -> None:
        """The same op is told the same."""
        assert self._told.setdefault(key, outcome) == outcome, f"another outcome than before: {outcome}"

    def _booked(self, request: Request, outcome: Any, *, promised: bool) -> None:
        if isinstance(outcome, Booked):
            for course in outcome.courses:
                held = self.auditor.courses[course.id]
                assert held.begun == course.appointments, "told other seats than were taken"
            told = [(course.id, course.appointments) for course in outcome.courses]
            self._promised(told, request.op.id, told[0][0])
        elif not isinstance(outcome, InDoubt):
            # What was promised may be forgotten meanwhile: a guard has room for four.
            forgotten = not promised or not self._is_promised(request)
            assert forgotten, f"refused, though told before: {outcome.reason}"

    def _is_promised(self, request: Request) -> bool:
        """Whether somebody who asks from now on must be told what was told before."""
        known = [self.auditor.begun_by(s.person, s.kind, request.op.id) for s in request.seekers]
        return all(known) and known[0] is not None and (request.op.id, known[0].id) in self._told

    def _changed(self, course: CourseId, op: Op, outcome: Any, *, promised: bool) -> None:
        if isinstance(outcome, Moved):
            told = (outcome.course.revision, outcome.course.appointments)
            self._promised(told, course, op.id)
        elif outcome is not None:
            assert not promised, f"refused, though told before: {outcome.reason}"

    def _held(self, op: Op, outcome: Any, *, promised: bool) -> None:
        if isinstance(outcome, Confirmed) and (op.id, b"y") in self.auditor.answers:
            self._promised(outcome, op.id)
        elif isinstance(outcome, Refused):
            assert not promised, f"refused, though told before: {outcome.reason}"

    def _cancelled(self, course: CourseId) -> Callable[[Any], None]:
        def check(outcome: Any) -> None:
            if isinstance(outcome, Cancelled):
                assert not self.auditor.courses[course].live, "told cancelled, but live"

        return check

    # The end ---------------------------------------------------------------------------------------------

    def quiet_end(self) -> None:
        """All processes are gone, the network is empty, consumer, janitor and sweep have done their work."""
        self._processes.clear()
        for late in self._network:
            self.call(late.call)
        self._network.clear()
        if self.chance.randrange(2):
            for partition in range(self.keyspace.partitions):
                self._offset_ms[partition] += 10 * HOLD_MS
                self.call(Call(partition, codec.expire(100)))
        self._settle_all()
        for steps in [*self._claimed(), *self._in_doubt()]:
            self._finish(steps)
        # What the sweep gave up or found over is an event too.
        self._settle_all()
        self.nothing_is_in_doubt()
        self.agrees_with_the_auditor()

    def _settle_all(self) -> None:
        for model in self.partitions:
            for event in list(model.events):
                self._finish(self._settling(codec.event(event)))

    def nothing_is_in_doubt(self) -> None:
        """Guards and parts are those of live courses, and of nothing else."""
        courses = {c: s for model in self.partitions for c, s in model.courses.items()}
        live = {(c.person, c.kind): c.generation for c, s in courses.items() if s.state in "bh"}
        for model in self.partitions:
            for who, guard in model.guards.items():
                assert guard.state == ("b" if who in live else "f"), f"a guard is in doubt: {guard}"
                assert who not in live or live[who] == guard.generation, "a guard of another course"
        counted = {
            (a.where, codec.PartId(c, a.dose, a.revision)): (a.session, a.slot, a.seat)
            for c, s in courses.items()
            if s.state in "bh"
            for a in s.appointments
            if a.where != HERE
        }
        kept = {
            (where, part): (p.appointment.session, p.appointment.slot, p.appointment.seat)
            for where, model in enumerate(self.partitions)
            for part, p in model.parts.items()
            if p.state != "x"
        }
        assert kept == counted, f"parts that nobody counts, or counted ones that are gone: {kept}, {counted}"
        states = {p.state for model in self.partitions for p in model.parts.values()}
        assert states <= {"b", "x"}, "a part is in doubt"

    def agrees_with_the_auditor(self) -> None:
        """The models hold what the auditor has heard of: courses, holds, parts and seats."""
        courses = {c: s for model in self.partitions for c, s in model.courses.items() if s.state != "t"}
        assert {c: (s.state, s.op, s.appointments) for c, s in courses.items()} == {
            c: (h.state, h.op, h.appointments) for c, h in self.auditor.courses.items()
        }, "other courses than the outboxes told of"
        assert {c: u for model in self.partitions for c, u in model.holds.items()} == {
            c: h.until_ms for c, h in self.auditor.courses.items() if h.state == "h"
        }, "other holds than the outboxes told of"
        owned = self.auditor.owned()
        for session, slots in self.auditor.masks().items():
            model = self.partitions[self.keyspace.of_location(session % DOSE_2_SESSIONS)]
            width, mask = model.stock[session]
            for slot, free in slots.items():
                found = {seat for seat in range(8 * width) if seats.is_free(mask, width, slot, seat)}
                assert found == free, f"session {session} slot {slot}: {found} free instead of {free}"
                assert not any((session, slot, seat) in owned for seat in found), "an owner's seat is free"
                lines = next(x.lines for x in LOCATIONS if x.id == session % DOSE_2_SESSIONS)
                gone = set(range(lines)) - found
                assert all((session, slot, seat) in owned for seat in gone), "a seat that nobody has"


def _location_of(held: Held) -> int:
    return held.begun[0].session % DOSE_2_SESSIONS


def _keyed(
    key: str,
    location: Location,
    seekers: tuple[Seeker, ...],
    hold_ms: int,
    instead: CourseId | None = None,
) -> Request:
    """A request whose op's digest follows from what it asks."""
    op = Op(key.ljust(8, "-").encode(), _digest(location.id, seekers, hold_ms, instead))
    return Request(op, location.id, seekers, hold_ms, instead)


def _digest(*asked: object) -> bytes:
    return hashlib.sha256(repr(asked).encode()).digest()[:8]
