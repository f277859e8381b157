"""Any sequence of answers, cancellations, clocks and crashes keeps the promises of the waitlist.

Postgres is real, the seats keep theirs in memory (``tests/waiting.py``). A process dies before any of its
steps, or loses the reply of one. What must hold is written from the promises: who is told of a seat is
compared with a line that is computed here, from what people have done.
"""

import asyncio
import os
from collections.abc import Coroutine, Iterator
from datetime import timedelta
from itertools import takewhile
from typing import Any, ClassVar, TypeVar

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run

from engine import limits
from engine.domain.course import Wish
from engine.errors import OutcomeUnknown
from engine.servers.postgres import PostgresServer
from engine.storage.migrate import migrate
from engine.waitlist.entries import Joined
from engine.waitlist.needs import Freed
from engine.waitlist.offers import Accepted, NotAccepted
from tests.waiting import FIRST, LINES, ONE, PRIMARY, SECOND, SLOTS, TWO, Country, Died, asked
from tests.world import person_key

T = TypeVar("T")
PEOPLE = st.integers(0, 7)
DEATHS = st.none() | st.none() | st.integers(1, 16)
ALL_SEATS = 2 * SLOTS * LINES


class Waiting(msgspec.Struct):
    """An entry as its people made it."""

    entry: int
    people: tuple[int, ...]
    shape: str

    @property
    def form(self) -> tuple[str, int]:
        return self.shape, len(self.people)


class Waitlist(RuleBasedStateMachine):
    """The machine; ``pool`` and ``runner`` are set by the test that runs it."""

    pool: ClassVar[Any]
    runner: ClassVar[asyncio.Runner]

    @initialize()
    def open_the_country(self) -> None:
        self.country = Country(self.pool)
        self.desk, self.clock = self.country.desk, self.country.clock
        self.do(self.country.clear())
        self.do(self.country.register(*range(8)))
        self.do(self.country.rounds.begin())
        self.country.fill()
        self.joined: list[Waiting] = []
        for person, busy in ((0, 100), (1, 102)):
            (freed,) = self.desk.cancel(busy)
            assert self.desk.book(person, Wish(1, freed.session, freed.slot))
        self.desk.cancel(104)
        self.told: dict[int, tuple[int, int, int]] = {}
        self.told_people: set[tuple[int, int, int]] = set()
        self.accepted: dict[int, Any] = {}
        self.keys = 0
        for person in (2, 3):
            self.join([person], ONE, None)

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def survive(
        self, work: Coroutine[Any, Any, T], dies_at: int | None, mute_at: int | None = None
    ) -> T | None:
        """Do it in a process that may die; then another takes over."""
        self.country.fuse.set(dies_at, mute_at)
        try:
            return self.do(work)
        except (Died, OutcomeUnknown):
            self.country.restart()
            return None
        finally:
            self.country.fuse.set()

    # What people do -----------------------------------------------------------------------------------------

    @rule(
        people=st.lists(PEOPLE, min_size=1, max_size=2, unique=True),
        shape=st.sampled_from([ONE, ONE, TWO]),
        dies_at=DEATHS,
    )
    def join(self, people: list[int], shape: str, dies_at: int | None) -> None:
        self.keys += 1
        for fuse in (dies_at, None):
            work = self.country.entries.join(asked(*people, shape=shape), f"k{self.keys}")
            answer = self.survive(work, fuse)
        if isinstance(answer, Joined):
            self.joined.append(Waiting(answer.entry, tuple(people), shape))
        else:
            busy = any(self.is_booked(person) for person in people)
            full = any(self.entries_of(p) >= limits.WAITLIST_PER_PERSON_MAX for p in people)
            assert busy or full, answer

    @precondition(lambda self: self.joined)
    @rule(data=st.data(), dies_at=DEATHS)
    def leave(self, data: st.DataObject, dies_at: int | None) -> None:
        waiting = data.draw(st.sampled_from(self.joined))
        state = self.survive(self.country.entries.leave(waiting.entry), dies_at)
        assert state is None or state in ("left", "booked", "expired", "offered")

    @precondition(lambda self: self.desk.courses)
    @rule(data=st.data(), again=st.booleans(), is_heard=st.booleans(), dies_at=DEATHS)
    def cancel(self, data: st.DataObject, again: bool, is_heard: bool, dies_at: int | None) -> None:
        """Some wait for a better time at once; not every release is heard of."""
        person = data.draw(st.sampled_from(self.booked()))
        freed = self.desk.cancel(person)
        if again and person < 100:
            self.join([person], ONE, None)
        for slot in freed if is_heard else ():
            self.country.wakes.add(slot.session, slot.slot)
            if slot.session == FIRST:
                self.look_at(slot.slot, dies_at)

    @rule(person=PEOPLE, session=st.sampled_from([FIRST, SECOND]), slot=st.integers(0, SLOTS - 1))
    def book_by_the_usual_way(self, person: int, session: int, slot: int) -> None:
        self.desk.book(person, Wish(session, session, slot))

    @precondition(lambda self: self.booked())
    @rule(data=st.data(), slot=st.integers(0, SLOTS - 1))
    def cancel_and_be_booked_before_one_is_told(self, data: st.DataObject, slot: int) -> None:
        """The worker dies when it has set a seat aside, and one of those whom it is for books."""
        freed = self.desk.cancel(data.draw(st.sampled_from(self.booked())))

        async def dies(*_: Any) -> None:
            raise Died

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.country.ledger, "open", dies)
            self.survive(self.country.rounds.consider(freed[0]), None)
        self.country.restart()
        chosen = self.rows("select entry from waitlist_offer where state = 'opening' order by entry")
        if chosen:
            people = sorted({person for (entry,) in chosen for person in self.people_of(entry)})
            self.desk.book(data.draw(st.sampled_from(people)), Wish(2, SECOND, slot))
        self.survive(self.country.rounds.drive(), None)

    @precondition(lambda self: self.told)
    @rule(data=st.data(), after_s=st.sampled_from([0.0, 0.0, 899.0, 901.0]), dies_at=DEATHS, mute_at=DEATHS)
    def accept(self, data: st.DataObject, after_s: float, dies_at: int | None, mute_at: int | None) -> None:
        """Mostly what was offered last, and some too late, whoever is asleep."""
        offer = data.draw(st.sampled_from(sorted(self.told)) | st.sampled_from(sorted(self.told)[-2:]))
        self.clock.pass_(after_s)
        self.keys += 1
        ((state, deadline),) = self.rows(
            f"select o.state, l.deadline from waitlist_offer o join waitlist_lot l on l.id = o.lot"  # noqa: S608
            f" where o.id = {offer}"
        )
        work = self.country.offers.accept(offer, f"a{self.keys}")
        answer = self.survive(work, dies_at, mute_at)
        if isinstance(answer, Accepted):
            assert state != "open" or self.clock() <= deadline, "accepted after its time"
            assert self.accepted.setdefault(offer, answer) == answer
        if isinstance(answer, NotAccepted):
            assert offer not in self.accepted

    @precondition(lambda self: self.told)
    @rule(data=st.data(), dies_at=DEATHS)
    def refuse(self, data: st.DataObject, dies_at: int | None) -> None:
        self.survive(self.country.offers.refuse(data.draw(st.sampled_from(sorted(self.told)))), dies_at)

    # What processes and clocks do ---------------------------------------------------------------------------

    @rule(slot=st.integers(0, SLOTS - 1), dies_at=DEATHS)
    def look_at(self, slot: int, dies_at: int | None) -> None:
        freed = Freed(FIRST, slot)
        expected = self.expected(freed)
        before = self.last_lot()
        self.survive(self.country.rounds.consider(freed), dies_at)
        if (lot := self.last_lot()) > before:
            chosen = self.rows(f"select entry from waitlist_offer where lot = {lot} order by entry")  # noqa: S608
            assert [entry for (entry,) in chosen] == expected
        elif dies_at is None:
            assert not expected

    @rule(dies_at=DEATHS, mute_at=DEATHS)
    def work(self, dies_at: int | None, mute_at: int | None) -> None:
        self.survive(self.country.rounds.drive(), dies_at)
        self.survive(self.country.rounds.look(), dies_at, mute_at)

    @rule(dies_at=DEATHS)
    def tick(self, dies_at: int | None) -> None:
        self.survive(self.country.rounds.tick(), dies_at)

    @rule(seconds=st.sampled_from([1.0, 20.0, 300.0, 901.0, 901.0, 3_600.0, 18_000.0, 60_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock.pass_(seconds)
        self.desk.expire()

    @rule(seconds=st.sampled_from([60.0, 3_600.0]))
    def the_clock_is_set_back(self, seconds: float) -> None:
        self.clock.pass_(-seconds)

    # What must hold -----------------------------------------------------------------------------------------

    @invariant()
    def who_is_told_may_have_it(self) -> None:
        if not hasattr(self, "country"):
            return
        found = self.rows(
            "select o.id, o.entry, o.session, o.slot, o.opened_at, l.deadline, o.state, l.offer_key"
            " from waitlist_offer o join waitlist_lot l on l.id = o.lot"
            " where o.opened_at is not null order by o.id"
        )
        for offer, entry, session, slot, opened_at, deadline, state, key in found:
            if offer in self.told:
                continue
            self.told[offer] = (entry, session, slot)
            begins = self.country.sessions[session].slot_starts_at(slot)
            assert opened_at + timedelta(seconds=limits.OFFER_S_MIN) <= deadline < begins, "too late"
            if state == "open":
                assert key.bytes in self.desk.holds, "nothing is held for it"
            for person in self.people_of(entry):
                assert (person_key(person), session, slot) not in self.desk.freed, "told of their own seat"
                assert (person, session, slot) not in self.told_people, "told of the same seat twice"
                assert state != "open" or not self.is_booked(person), "told though booked"
                self.told_people.add((person, session, slot))

    @invariant()
    def nothing_is_oversold(self) -> None:
        if not hasattr(self, "country"):
            return
        assert self.desk.seats_in_all() == ALL_SEATS
        taken = [key for key, _ in self.desk.taken_by_offer]
        assert len(taken) == len(set(taken))
        takers = self.rows("select lot, count(*) from waitlist_offer where state = 'accepted' group by lot")
        assert all(count == 1 for _, count in takers)
        assert len(takers) <= len(taken)

    @invariant()
    def an_entry_is_offered_exactly_while_it_has_an_offer(self) -> None:
        if not hasattr(self, "country"):
            return
        assert not self.rows(
            "select e.id from waitlist_entry e left join waitlist_offer o"
            " on o.entry = e.id and o.state in ('opening', 'open', 'accepting')"
            " where (e.state = 'offered') <> (o.id is not null)"
        )

    @invariant()
    def a_lot_is_open_while_it_is_accepted(self) -> None:
        if not hasattr(self, "country"):
            return
        assert not self.rows(
            "select l.id from waitlist_lot l join waitlist_offer o on o.lot = l.id"
            " where o.state = 'accepting' and l.state <> 'open'"
        )

    @invariant()
    def the_grid_holds_those_who_wait(self) -> None:
        if not hasattr(self, "country"):
            return
        assert not self.rows(
            "select e.id from waitlist_entry e left join waitlist_cell c on c.entry = e.id"
            " where (e.state in ('waiting', 'offered')) <> (c.entry is not null)"
        )

    def teardown(self) -> None:
        """Left alone, everything comes to its end, and records and seats agree."""
        if not hasattr(self, "country"):
            return
        self.clock.pass_(86_400)
        self.desk.expire()
        self.country.wakes.take(limits.WAITLIST_WAKES_MAX)
        for _ in range(3):
            self.do(self.country.rounds.drive())
        assert not self.desk.holds
        assert not self.rows("select id from waitlist_lot where state <> 'closed'")
        assert not self.rows("select id from waitlist_offer where state in ('opening', 'open', 'accepting')")
        accepted = self.rows("select entry from waitlist_offer where state = 'accepted'")
        took = sorted(sorted(people) for _, people in self.desk.taken_by_offer)
        assert took == sorted(sorted(person_key(p) for p in self.people_of(entry)) for (entry,) in accepted)

    # How ----------------------------------------------------------------------------------------------------

    def expected(self, freed: Freed) -> list[int]:
        """Whom the seat must be offered to now, and nobody else; empty for nobody."""
        acceptance = self.do(self.country.ledger.acceptance())
        states = dict(self.rows("select id, state from waitlist_entry"))
        opening = self.rows("select entry, session, slot from waitlist_offer where state = 'opening'")
        pending = {(p, session, slot) for entry, session, slot in opening for p in self.people_of(entry)}
        line: list[Waiting] = []
        for waiting in sorted(self.joined, key=lambda waiting: waiting.entry):
            plan = self.plan(freed, waiting)
            if states[waiting.entry] != "waiting" or plan is None:
                continue
            slots = [(wish.session, wish.slot) for member in plan for wish in member]
            had = {(p, freed.session, freed.slot) for p in waiting.people} & (self.told_people | pending)
            own = any((person_key(p), *slot) in self.desk.freed for p in waiting.people for slot in slots)
            if not had and not own and not any(map(self.is_booked, waiting.people)):
                line.append(waiting)
        same = list(takewhile(lambda waiting: waiting.form == line[0].form, line))
        chosen: list[Waiting] = []
        for waiting in same:
            if not any(set(waiting.people) & set(other.people) for other in chosen):
                chosen.append(waiting)
        return [waiting.entry for waiting in chosen[: acceptance.parallel()]]

    def plan(self, freed: Freed, waiting: Waiting) -> Any:
        around = self.country.surroundings().around
        plan = around(freed.session, freed.slot, PRIMARY, waiting.shape, len(waiting.people))
        least = timedelta(seconds=limits.OFFER_BEFORE_SLOT_S + limits.OFFER_S_MIN)
        wishes = [wish for member in plan or () for wish in member]
        begin = [self.country.sessions[wish.session].slot_starts_at(wish.slot) for wish in wishes]
        return plan if plan and min(begin) - self.clock() >= least else None

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.do(self.country.rows(sql))

    def last_lot(self) -> int:
        return int(self.rows("select coalesce(max(id), 0) from waitlist_lot")[0][0])

    def people_of(self, entry: int) -> tuple[int, ...]:
        return next(waiting.people for waiting in self.joined if waiting.entry == entry)

    def is_booked(self, person: int) -> bool:
        return (person_key(person), PRIMARY) in self.desk.courses

    def booked(self) -> list[int]:
        return [person for person in (*range(8), *range(100, 106)) if self.is_booked(person)]

    def entries_of(self, person: int) -> int:
        waiting = dict(
            self.rows("select id, state from waitlist_entry where state in ('waiting', 'offered')")
        )
        return sum(person in w.people and w.entry in waiting for w in self.joined)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One loop for all histories: the pool is bound to it."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def pool(runner: asyncio.Runner, postgres_server: PostgresServer) -> Iterator[Any]:
    """A migrated database that does not wait for its disk."""

    async def open_() -> Any:
        url = await postgres_server.create_database(f"waitlist_{os.getpid()}")
        pool = await asyncpg.create_pool(
            url, min_size=1, max_size=4, server_settings={"synchronous_commit": "off", "jit": "off"}
        )
        async with pool.acquire() as connection:
            await migrate(connection)
        return pool

    pool = runner.run(open_())
    yield pool
    runner.run(pool.close())


@pytest.mark.timeout(600)
def test_no_history_breaks_a_promise(runner: asyncio.Runner, pool: Any, stateful_examples: int) -> None:
    machine = type("Machine", (Waitlist,), {"pool": pool, "runner": runner})
    run(
        machine,
        settings=settings(
            max_examples=stateful_examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            print_blob=True,
        ),
    )
