"""Processes book, cancel and die between any two steps; copies arrive late; the consumer repeats itself.

Every answer is held against ``tests.auditor.py``, and after every step Redis is compared with it,
seat by seat, course by course, and with what the outboxes tell.
"""

from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.booking.book import Request, book
from engine.booking.cancel import cancel
from engine.booking.outcomes import Booked, Cancelled, Reason, Refused
from engine.booking.steps import Call, Steps
from engine.domain import seats as seat_mask
from engine.domain.course import CourseId, Op
from engine.inventory import codec
from tests.auditor import Auditor
from tests.world import Location, World

LOCATIONS = (Location(1, 2, 1), Location(2, 1, 2), Location(3, 1, 1))
PEOPLE, KEYS = st.integers(0, 3), st.sampled_from("abc")
SLOTS = st.tuples(st.integers(0, 1), st.integers(0, 1))


class Running(msgspec.Struct):
    """A use case under way in some process, about to make ``call``."""

    steps: Steps[Any]
    call: Call
    request: Request | None
    course: CourseId | None = None


class Protocol(RuleBasedStateMachine):
    """The machine; ``redis`` and ``partitions`` are set by the test that runs it."""

    redis: ClassVar[Any]
    partitions: ClassVar[int]

    @initialize()
    def open_the_country(self) -> None:
        self.world = World(self.redis, self.partitions, LOCATIONS)
        self.auditor = Auditor(LOCATIONS)
        self.running: list[Running] = []
        self.in_the_network: list[Running] = []
        self.consumed = [-1] * self.partitions
        self.fresh_keys = 0

    # What people do ------------------------------------------------------------------------------------

    @rule(person=PEOPLE, location=st.sampled_from(LOCATIONS), slots=SLOTS, key=KEYS)
    def begin_booking(self, person: int, location: Location, slots: tuple[int, int], key: str) -> None:
        request = self.request(person, location, slots, key)
        steps = book(request, self.world.placement)
        self.running.append(Running(steps, next(steps), request))

    @precondition(lambda self: self.auditor.courses)
    @rule(data=st.data())
    def begin_cancelling(self, data: st.DataObject) -> None:
        held = data.draw(st.sampled_from(sorted(self.auditor.courses.values(), key=repr)))
        location = held.appointments[0].session
        op = Op(b"x%07d" % held.id.generation, b"cancel--")
        steps = cancel(held.id, location, op, self.world.placement)
        self.running.append(Running(steps, next(steps), None, held.id))

    @rule(person=PEOPLE, location=st.sampled_from(LOCATIONS), slots=SLOTS)
    def book_undisturbed(self, person: int, location: Location, slots: tuple[int, int]) -> None:
        """Nobody else moves meanwhile: the outcome is exactly what the rules say."""
        self.fresh_keys += 1
        request = self.request(person, location, slots, f"f{self.fresh_keys}")
        live, full = self.auditor.live_course(request.person), self.auditor.is_full(request)
        steps = book(request, self.world.placement)
        outcome = self.finish(Running(steps, next(steps), request))
        if live is not None:
            assert outcome == Refused(Reason.ALREADY_BOOKED)
        elif full:
            assert isinstance(outcome, Refused)
            assert outcome.reason == Reason.FULL
        else:
            assert isinstance(outcome, Booked)

    @precondition(lambda self: any(held.live for held in self.auditor.courses.values()))
    @rule(data=st.data())
    def ask_again_with_the_same_op(self, data: st.DataObject) -> None:
        """The op that booked gets its answer again, whatever happened; its key with another body does not."""
        held = data.draw(st.sampled_from([h for h in self.auditor.courses.values() if h.live]))
        location = next(x for x in LOCATIONS if x.id == held.appointments[0].session)
        slots = (held.appointments[0].slot, held.appointments[1].slot)
        person = int.from_bytes(held.id.person[-4:], "little")
        key = held.op[:8].rstrip(b"-").decode()
        outcome = self.world.book(person, location.id, slots, key)
        assert isinstance(outcome, Booked)
        assert (outcome.course.id, outcome.course.appointments) == (held.id, held.appointments)
        other = next(x for x in LOCATIONS if x.id != location.id)
        assert self.world.book(person, other.id, (0, 0), key) == Refused(Reason.KEY_REUSED)

    # What processes and networks do ----------------------------------------------------------------------

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def go_on(self, data: st.DataObject) -> None:
        self.advance(self.pick(data, self.running))

    @precondition(lambda self: self.running)
    @rule(data=st.data(), sent=st.booleans())
    def die(self, data: st.DataObject, sent: bool) -> None:
        """The process dies: before its call, or after it with the reply lost."""
        dead = self.pick(data, self.running)
        self.running.remove(dead)
        if sent:
            self.execute(dead)

    @precondition(lambda self: self.running)
    @rule(data=st.data())
    def die_with_the_call_on_its_way(self, data: st.DataObject) -> None:
        dead = self.pick(data, self.running)
        self.running.remove(dead)
        self.in_the_network.append(dead)

    @precondition(lambda self: self.in_the_network)
    @rule(data=st.data(), again=st.booleans())
    def a_late_copy_arrives(self, data: st.DataObject, again: bool) -> None:
        late = self.pick(data, self.in_the_network)
        self.execute(late)
        if not again:
            self.in_the_network.remove(late)

    @rule(partition=st.integers(0, 3))
    def consume_an_event(self, partition: int) -> None:
        partition %= self.partitions
        for sequence, event in self.world.events(partition, self.consumed[partition]):
            record = codec.settle(event.course) if event.type == b"b" else codec.free(event.course)
            self.world.step(self.world.keyspace.of_person(event.course.person), record)
            self.consumed[partition] = sequence
            return

    @rule(partition=st.integers(0, 3))
    def the_consumer_starts_over(self, partition: int) -> None:
        self.consumed[partition % self.partitions] = -1

    # What must hold ----------------------------------------------------------------------------------------

    @invariant()
    def redis_is_what_the_auditor_says(self) -> None:
        if not hasattr(self, "world"):
            return
        for session, slots in self.auditor.masks().items():
            mask = self.world.mask(session)
            for slot, free in slots.items():
                assert {seat for seat in range(8) if seat_mask.is_free(mask, 1, slot, seat)} == free
        recorded = {c: r for c, r in self.world.courses().items() if r.state != b"t"}
        assert {c: (r.state == b"b", r.op, r.appointments) for c, r in recorded.items()} == {
            c: (h.live, h.op, h.appointments) for c, h in self.auditor.courses.items()
        }

    @invariant()
    def a_live_course_holds_its_guard(self) -> None:
        if not hasattr(self, "world"):
            return
        for held in self.auditor.courses.values():
            if held.live:
                guard = self.world.guard(int.from_bytes(held.id.person[-4:], "little"))
                assert guard is not None
                assert (guard.state != b"f", guard.generation) == (True, held.id.generation)

    @invariant()
    def the_outboxes_tell_it_all(self) -> None:
        if not hasattr(self, "world"):
            return
        told: dict[CourseId, bool] = {}
        for partition in range(self.partitions):
            events = list(self.world.events(partition))
            assert [sequence for sequence, _ in events] == list(range(len(events)))
            for _, event in events:
                told[event.course] = event.type == b"b"
        assert told == {course: held.live for course, held in self.auditor.courses.items()}

    # How ---------------------------------------------------------------------------------------------------

    def request(self, person: int, location: Location, slots: tuple[int, int], key: str) -> Request:
        return self.world.request(
            person, location.id, (slots[0] % location.slots, slots[1] % location.slots), key
        )

    @staticmethod
    def pick(data: st.DataObject, running: list[Running]) -> Running:
        return running[data.draw(st.integers(0, len(running) - 1))]

    def finish(self, running: Running) -> Any:
        while True:
            answer = self.execute(running)
            try:
                running.call = running.steps.send(answer if running.call.awaited else b"")
            except StopIteration as end:
                return end.value

    def advance(self, running: Running) -> None:
        answer = self.execute(running)
        try:
            running.call = running.steps.send(answer if running.call.awaited else b"")
        except StopIteration as end:
            self.running.remove(running)
            self.check_outcome(running, end.value)

    def execute(self, running: Running) -> bytes:
        """Execute the call against Redis and tell the auditor what was answered."""
        answer = self.world.execute(running.call)
        code = running.call.record[:1]
        assert answer[:1] not in (b"!", b"D", b"N"), answer
        if code in (b"b", b"t") and running.request is not None:
            self.auditor.told(running.call.record, running.request, answer)
        elif code == b"x" and answer[:1] == b"X" and running.course is not None:
            self.auditor.cancelled(running.course)
        return answer

    def check_outcome(self, running: Running, outcome: Any) -> None:
        if isinstance(outcome, Booked):
            held = self.auditor.courses[outcome.course.id]
            assert held.appointments == outcome.course.appointments
        elif isinstance(outcome, Cancelled):
            assert not self.auditor.courses[outcome.course.id].live


@pytest.mark.parametrize(("masters", "partitions"), [(1, 1), (1, 4), (3, 4)])
def test_no_history_breaks_a_rule(redis_client: Any, partitions: int, stateful_examples: int) -> None:
    machine = type("Machine", (Protocol,), {"redis": redis_client, "partitions": partitions})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=stateful_examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            print_blob=True,
        ),
    )
