"""One history: people, processes and a network under a seeded scheduler, against the model of the scripts.

The scheduler may at every step crash a process before or after its call, lose the reply, keep a copy for
later, deliver it twice or out of order, move a clock, repeat the consumer. The auditor (``tests/auditor.py``)
judges every answer. Same seed, same trace, same hash.
"""

import hashlib
import random
from typing import TYPE_CHECKING, Any

import msgspec

from engine import limits
from engine.booking.book import Request, book
from engine.booking.cancel import cancel
from engine.booking.outcomes import Booked, Cancelled
from engine.booking.resolve import resolve
from engine.booking.steps import Call, Placement, Steps
from engine.domain import seats
from engine.domain.course import CourseId, Kind, Op, Wish
from engine.inventory import codec
from engine.redis.keyspace import Keyspace
from tests.auditor import Auditor
from tests.simulation.model import PartitionModel
from tests.world import Location, person_key

if TYPE_CHECKING:
    from collections.abc import Callable

# Far in the future: the real clock of a server that replays the trace never overtakes the history's.
BEGINNING_MS = 10**14
LOCATIONS = (Location(1, 2, 1), Location(2, 1, 2), Location(3, 1, 1))
PEOPLE = 3
ACTIONS_MAX = 40


class Entry(msgspec.Struct, frozen=True):
    """One executed operation: where, at what clock, what was asked and what was answered."""

    partition: int
    now_ms: int
    record: bytes
    answer: bytes


class Process(msgspec.Struct):
    """A use case about to make ``call``; ``request`` or ``course`` is what it is about."""

    steps: Steps[Any]
    call: Call
    request: Request | None = None
    course: CourseId | None = None


class History:
    """Runs one history; afterwards ``trace`` and ``partitions`` hold what happened and what is left."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.keyspace = Keyspace(self.chance.choice((1, 2, 4)))
        self.partitions = [PartitionModel() for _ in range(self.keyspace.partitions)]
        self.trace: list[Entry] = []
        self.auditor = Auditor(LOCATIONS)
        self.placement = Placement(self.keyspace, self._not_after)
        self._processes: list[Process] = []
        self._network: list[Process] = []
        self._consumed = [0] * self.keyspace.partitions
        self._offset_ms = [0] * self.keyspace.partitions

    @property
    def digest(self) -> str:
        """Hash of the whole trace."""
        whole = hashlib.sha256()
        for entry in self.trace:
            whole.update(b"%d %d " % (entry.partition, entry.now_ms) + entry.record + b">" + entry.answer)
        return whole.hexdigest()

    def run(self) -> None:
        """Play the history to its quiet end. Raises ``AssertionError`` where a rule is broken."""
        self._open()
        actions: tuple[Callable[[], None], ...] = (
            *[self._begin_booking] * 4,
            self._begin_cancelling,
            *[self._go_on] * 8,
            self._die,
            self._reply_lost,
            self._delay,
            self._duplicate,
            *[self._deliver] * 2,
            *[self._consume] * 2,
            self._repeat_consumer,
            self._move_clock,
        )
        for _ in range(self.chance.randrange(ACTIONS_MAX // 2, ACTIONS_MAX)):
            self.chance.choice(actions)()
        self._quiet_end()

    # Scheduler -------------------------------------------------------------------------------------------

    def _begin_booking(self) -> None:
        location = self.chance.choice(LOCATIONS)
        slots = (self.chance.randrange(location.slots), self.chance.randrange(location.slots))
        key = self.chance.choice((b"a-------", b"b-------", b"c-------"))
        op = Op(key, b"%d/%d/%d---" % (location.id, *slots))
        wishes = tuple(map(Wish, (1, 2), location.sessions, slots))
        request = Request(person_key(self.chance.randrange(PEOPLE)), Kind.PRIMARY, op, location.id, wishes)
        steps = book(request, self.placement)
        self._processes.append(Process(steps, next(steps), request))

    def _begin_cancelling(self) -> None:
        if not self.auditor.courses:
            return
        held = self.chance.choice(list(self.auditor.courses.values()))
        op = Op(b"cancel%d-" % self.chance.randrange(2), b"cancel--")
        steps = cancel(held.id, held.appointments[0].session, op, self.placement)
        self._processes.append(Process(steps, next(steps), None, held.id))

    def _go_on(self) -> None:
        if self._processes:
            self._advance(self.chance.choice(self._processes))

    def _die(self) -> None:
        if self._processes:
            self._processes.remove(self.chance.choice(self._processes))

    def _reply_lost(self) -> None:
        if self._processes:
            process = self.chance.choice(self._processes)
            self._processes.remove(process)
            self._execute(process)

    def _delay(self) -> None:
        if self._processes:
            process = self.chance.choice(self._processes)
            self._processes.remove(process)
            self._network.append(process)

    def _duplicate(self) -> None:
        if self._network:
            self._execute(self.chance.choice(self._network))

    def _deliver(self) -> None:
        if self._network:
            late = self.chance.choice(self._network)
            self._network.remove(late)
            self._execute(late)

    def _consume(self) -> None:
        partition = self.chance.randrange(self.keyspace.partitions)
        events = self.partitions[partition].events
        if self._consumed[partition] < len(events):
            self._settle(codec.event(events[self._consumed[partition]]))
            self._consumed[partition] += 1

    def _repeat_consumer(self) -> None:
        self._consumed[self.chance.randrange(self.keyspace.partitions)] = 0

    def _move_clock(self) -> None:
        """Time passes for one partition, or a host's clock jumps; it never goes back in the partition."""
        partition = self.chance.randrange(self.keyspace.partitions)
        self._offset_ms[partition] += self.chance.choice((1, 500, limits.OPERATION_MS_MAX + 1))

    # Executing -------------------------------------------------------------------------------------------

    def _open(self) -> None:
        for location in LOCATIONS:
            for session in location.sessions:
                mask = bytes(seats.all_free(location.slots, location.lines))
                record = codec.open_session(session, seats.width_of(location.lines), mask)
                self._call(Call(self.keyspace.of_location(location.id), record))

    def _not_after(self, partition: int) -> int:
        return self._now(partition) + limits.OPERATION_MS_MAX

    def _now(self, partition: int) -> int:
        return BEGINNING_MS + self._offset_ms[partition]

    def _call(self, call: Call) -> bytes:
        model = self.partitions[call.partition]
        model.now_ms = self._now(call.partition)
        answer = model.execute(call.record)
        self.trace.append(Entry(call.partition, model.now_ms, call.record, answer))
        return answer

    def _settle(self, event: codec.Event) -> None:
        record = codec.settle(event.course) if event.type == b"b" else codec.free(event.course)
        self._call(Call(self.keyspace.of_person(event.course.person), record))

    def _execute(self, process: Process) -> bytes:
        answer = self._call(process.call)
        code = process.call.record[:1]
        if code in (b"b", b"t") and process.request is not None:
            self.auditor.told(process.call.record, process.request, answer)
        elif code == b"x" and answer[:1] == b"X" and process.course is not None:
            self.auditor.cancelled(process.course)
        return answer

    def _advance(self, process: Process) -> None:
        answer = self._execute(process)
        try:
            process.call = process.steps.send(answer if process.call.awaited else b"")
        except StopIteration as end:
            self._processes.remove(process)
            self._check(end.value)

    def _check(self, outcome: Any) -> None:
        if isinstance(outcome, Booked):
            held = self.auditor.courses[outcome.course.id]
            assert held.appointments == outcome.course.appointments, "told other seats than were taken"
        elif isinstance(outcome, Cancelled):
            assert not self.auditor.courses[outcome.course.id].live, "told cancelled, but live"

    # The end ---------------------------------------------------------------------------------------------

    def _quiet_end(self) -> None:
        """All processes are gone, the network is empty, consumer and sweep have done their work."""
        for late in self._network:
            self._execute(late)
        for model in self.partitions:
            for event in list(model.events):
                self._settle(codec.event(event))
        for model in self.partitions:
            for (person, kind), guard in model.guards.items():
                if guard.state in "cj":
                    live = codec.Live(b"c", guard.generation, guard.location)
                    self._finish(resolve(person, kind, live, self.placement))
        self._nothing_is_in_doubt()
        self._stock_is_what_the_auditor_says()

    def _finish(self, steps: Steps[bool]) -> None:
        try:
            call = next(steps)
            while True:
                answer = self._call(call)
                call = steps.send(answer if call.awaited else b"")
        except StopIteration:
            return

    def _nothing_is_in_doubt(self) -> None:
        for model in self.partitions:
            for (person, _), guard in model.guards.items():
                live = self.auditor.live_course(person)
                if live is None:
                    assert guard.state == "f", "a guard is held by nobody"
                else:
                    assert (guard.state, guard.generation) == ("b", live.id.generation), (
                        "a course without its guard"
                    )

    def _stock_is_what_the_auditor_says(self) -> None:
        for session, slots in self.auditor.masks().items():
            model = self.partitions[self.keyspace.of_location(session % 1000)]
            width, mask = model.stock[session]
            for slot, free in slots.items():
                found = {seat for seat in range(8 * width) if seats.is_free(mask, width, slot, seat)}
                assert found == free, f"session {session} slot {slot}: {found} free instead of {free}"
