"""What each act becomes in Postgres; what none can have told goes to quarantine, whole and alone."""

import asyncio
import secrets
import time
from datetime import timedelta
from typing import Any

import pytest

from engine.booking.aside import Away, aside
from engine.booking.book import Request, Seeker, book
from engine.booking.drive import start
from engine.booking.hold import Extension, confirm, extend
from engine.booking.move import Change, move
from engine.booking.outcomes import Booked, Confirmed, Extended, Moved
from engine.booking.read import read_course
from engine.booking.steps import Steps
from engine.domain.course import Appointment, Course, CourseId, Kind, Op, Wish
from engine.errors import PersisterReplaced
from engine.inventory import codec
from engine.inventory.codec import JOINED, LEFT, RELEASED, TAKEN
from engine.outbox import commit, rounds
from engine.outbox.feed import Feed, Position
from engine.storage.queries import query
from tests.agreement import differences
from tests.deployment import Deployment, until
from tests.world import person_key

REASONS = "select reason from quarantine order by partition, sequence"
COURSES = (
    "select state::text, revision, until is null, cancelled_at is null, given_vaccine, given_day from course"
)
CHANGES = (
    "select act::text, revision, op = '\\x00000000000000000000000000000000' from change order by revision"
)
SEATS = """
select dose, revision, place, live, joined, left_revision, ended_at is null from appointment
order by dose, revision, place
"""
HOLD_MS = 600_000
HOME, ELSEWHERE = 1, 2


def new_op() -> Op:
    return Op(secrets.token_bytes(8), bytes(8))


class Person:
    """Person 1, who books at location 1; the guard is in the same partition, location 2 is not."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.key = person_key(1)

    async def run(self, steps: Steps[Any]) -> Any:
        return await start(steps, self.deployment.batcher)

    async def begin(self, hold_ms: int = 0, second: int = HOME, instead: CourseId | None = None) -> Course:
        await self.deployment.register(1)
        return await self._begin(self.key, Kind.PRIMARY, hold_ms, second, instead)

    async def offer(self) -> Course:
        return await self._begin(person_key(50), Kind.OFFER, HOLD_MS, HOME, None)

    async def _begin(
        self, key: bytes, kind: Kind, hold_ms: int, second: int, instead: CourseId | None
    ) -> Course:
        first = Wish(1, self.deployment.sessions(HOME)[0], 0)
        seeker = Seeker(key, kind, (first,), (self.wish(2, second),), given_vaccine=2, given_day=9000)
        request = Request(new_op(), HOME, (seeker,), hold_ms, instead)
        outcome = await self.run(book(request, self.deployment.placement))
        assert isinstance(outcome, Booked), outcome
        return outcome.course

    def wish(self, dose: int, location: int, slot: int = 0) -> Away:
        return Away(location, Wish(dose, self.deployment.sessions(location)[dose - 1], slot))

    async def confirm(self, course: Course) -> None:
        outcome = await self.run(confirm([course.id], HOME, new_op(), self.deployment.placement))
        assert isinstance(outcome, Confirmed), outcome

    async def extend(self, course: Course) -> int:
        by = Extension(2 * HOLD_MS, 3)
        outcome = await self.run(extend([course.id], HOME, new_op(), by, self.deployment.placement))
        assert isinstance(outcome, Extended), outcome
        return outcome.until_ms

    async def move(self, course: Course, *wishes: Away) -> None:
        now = await self.run(read_course(course.id, HOME, self.deployment.placement))
        change = Change(now, new_op(), frozenset({2}), wishes)
        outcome = await self.run(move(change, self.deployment.placement))
        assert isinstance(outcome, Moved), outcome

    async def aside(self, course: Course) -> tuple[Appointment, ...]:
        """A seat elsewhere for the course's next revision, which nobody counts."""
        home = self.deployment.keyspace.of_location(HOME)
        wishes = [self.wish(2, ELSEWHERE)]
        steps = aside(course.id, course.revision + 1, new_op(), home, wishes, self.deployment.placement)
        found: tuple[Appointment, ...] = await self.run(steps)
        return found

    async def expire(self) -> None:
        await asyncio.sleep(0.005)
        partition = self.deployment.keyspace.of_location(HOME)
        assert await self.deployment.batcher.put(partition, codec.expire(10)) == b"E\x01\x00"


@pytest.fixture
async def person(deployment: Deployment) -> Person:
    """One partition."""
    return Person(deployment)


@pytest.fixture
async def traveller(four_partitions: Deployment) -> Person:
    """Location 2 is in another partition."""
    return Person(four_partitions)


@pytest.fixture(params=[False, True], ids=["one-batch", "batch-by-batch"])
def each(request: pytest.FixtureRequest) -> bool:
    """Whether every act is persisted before the next one."""
    return bool(request.param)


# Every act --------------------------------------------------------------------------------------------------


async def test_a_hold_extended_confirmed_and_moved(person: Person, each: bool) -> None:
    deployment = person.deployment
    course = await person.begin(HOLD_MS)
    if each:
        await deployment.persist()
        assert await deployment.rows(COURSES) == [("h", 1, False, True, 2, 9000)]
    until_ms = await person.extend(course)
    if each:
        await deployment.persist()
        ends = await deployment.pool.fetchval("select extract(epoch from until) * 1000 from course")
        assert round(ends) == until_ms
    await person.confirm(course)
    if each:
        await deployment.persist()
        assert await deployment.rows(COURSES) == [("b", 3, True, True, 2, 9000)]
    await person.move(course, person.wish(2, HOME, 1))
    await deployment.persist()
    assert await deployment.rows(COURSES) == [("b", 4, True, True, 2, 9000)]
    assert await deployment.rows(CHANGES) == [("w", 2, False), ("c", 3, False), ("v", 4, False)]
    assert await deployment.rows(SEATS) == [
        (1, 1, 255, True, True, None, True),
        (2, 1, 255, False, True, 4, False),
        (2, 4, 255, True, True, None, True),
    ]
    assert await deployment.rows(REASONS) == []
    assert await differences(deployment) == []


async def test_a_hold_that_expires(person: Person, each: bool) -> None:
    course = await person.begin(1)
    if each:
        await person.deployment.persist()
    await person.expire()
    await person.deployment.persist()
    assert await person.deployment.rows(COURSES) == [("x", 2, True, False, 2, 9000)]
    assert await person.deployment.rows(CHANGES) == [("e", 2, True)]
    assert [row[3:6] for row in await person.deployment.rows(SEATS)] == [(False, True, 2)] * 2
    assert await differences(person.deployment) == []
    assert course.until_ms > 0


async def test_an_offer_gives_its_seats_to_a_person(person: Person, each: bool) -> None:
    """Nobody is registered as the offer; the seat passes on between two events of one step."""
    offer = await person.offer()
    if each:
        await person.deployment.persist()
    course = await person.begin(instead=offer.id)
    await person.deployment.persist()
    assert {a.seat for a in course.appointments} == {a.seat for a in offer.appointments}
    assert await person.deployment.rows(REASONS) == []
    assert await differences(person.deployment) == []


async def test_a_dose_elsewhere_moves_home_and_is_given_up(traveller: Person, each: bool) -> None:
    deployment = traveller.deployment
    course = await traveller.begin(second=ELSEWHERE)
    if each:
        await deployment.persist()
        assert await deployment.rows(SEATS) == [
            (1, 1, 255, True, True, None, True),
            (2, 1, 2, True, True, None, True),
        ]
    await traveller.move(course, traveller.wish(2, HOME))
    if each:
        await deployment.persist()
    await traveller.move(course)
    await deployment.persist()
    assert await deployment.rows(SEATS) == [
        (1, 1, 255, True, True, None, True),
        (2, 1, 2, False, True, 2, False),
        (2, 2, 255, False, True, 3, False),
    ]
    assert await deployment.rows(REASONS) == []
    assert await differences(deployment) == []


async def test_a_cancellation_reaches_what_is_elsewhere(traveller: Person, each: bool) -> None:
    course = await traveller.begin(second=ELSEWHERE)
    if each:
        await traveller.deployment.persist()
    await traveller.deployment.cancelled(course)
    await traveller.deployment.persist()
    assert [row[3:6] for row in await traveller.deployment.rows(SEATS)] == [(False, True, 2)] * 2
    assert await differences(traveller.deployment) == []


async def test_a_seat_set_aside_beside_a_seat_of_the_same_revision(traveller: Person, each: bool) -> None:
    """Somebody dies who wanted to move the dose elsewhere; it is moved at home, to the very same revision."""
    course = await traveller.begin()
    await traveller.aside(course)
    if each:
        await traveller.deployment.persist()
    await traveller.move(course, traveller.wish(2, HOME, 1))
    await traveller.deployment.persist()
    assert [row for row in await traveller.deployment.rows(SEATS) if row[1] == 2] == [
        (2, 2, 2, True, False, None, True),
        (2, 2, 255, True, True, None, True),
    ]
    assert await traveller.deployment.rows(REASONS) == []
    assert await differences(traveller.deployment) == []


@pytest.mark.parametrize("order", [(1, 2), (2, 1)], ids=["home-first", "part-first"])
async def test_home_and_part_are_read_in_either_order(
    four_partitions: Deployment, order: tuple[int, int]
) -> None:
    deployment, traveller = four_partitions, Person(four_partitions)
    course = await traveller.begin(second=ELSEWHERE)
    async with deployment.pool.acquire() as connection:
        await commit.prepare(connection)
        for partition in order:
            positions = {partition: Position(deployment.epochs[partition], -1)}
            read = await Feed(deployment.nodes).read(positions, 10)
            committed = await commit.commit(connection, read.entries, positions)
            assert committed.fold.broken == {}
    assert (2, 1, 2, True, True, None, True) in await deployment.rows(SEATS)
    assert await differences(deployment) == []
    await deployment.cancelled(course)
    await deployment.persist()
    assert await differences(deployment) == []


async def test_who_gave_a_seat_up(person: Person) -> None:
    deployment = person.deployment
    course = await person.begin()
    await person.move(course, person.wish(2, HOME, 1))
    await deployment.booked(2, HOME)
    await deployment.persist()
    session = deployment.sessions(HOME)[1]

    async def freed_by(slot: int, seconds: float) -> list[bytes]:
        since = timedelta(seconds=seconds)
        rows = await deployment.pool.fetch(query("appointment.freed_by"), [session], [slot], since)
        return [row[0] for row in rows]

    assert await freed_by(0, 60) == [person_key(1)]
    assert await freed_by(1, 60) == []
    assert await freed_by(0, 0) == []


# Other partitions -------------------------------------------------------------------------------------------


async def test_a_part_is_kept_and_its_partition_is_marked(traveller: Person) -> None:
    deployment = traveller.deployment
    await traveller.begin(second=ELSEWHERE)
    await deployment.persist()
    await _settled(deployment)
    assert [part.state for part in await _parts(deployment)] == [b"b"]
    marks = dict(await deployment.rows("select partition, mark from partition"))
    assert marks[2] > 0
    assert int(await deployment.client.hget(deployment.keyspace.meta(2), "mark")) == marks[2]


async def test_what_counts_a_seat_that_is_away_waits(
    traveller: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The guard is at home, the seat is not: without the mark there, Postgres must not count it."""
    is_away, deployment = True, traveller.deployment
    rests: list[dict[int, int]] = []

    async def mark(self: rounds.Rounds, read: Any) -> dict[int, int]:
        marks = await marking(self, read)
        rests.append(marks)
        return {p: number for p, number in marks.items() if p != 2 or not is_away}

    marking = rounds.Rounds._mark
    monkeypatch.setattr(rounds.Rounds, "_mark", mark)
    await traveller.begin(second=ELSEWHERE)
    persister = deployment.persister()
    working = asyncio.create_task(persister.run())

    async def has_read() -> bool:
        return sum(2 in marks for marks in rests) >= 2 and await deployment.watermark(2) == 0

    await until(has_read, working)
    assert await deployment.rows("select * from course") == []
    is_away = False
    await until(deployment.is_persisted, working)
    persister.stop()
    await working
    assert await differences(deployment) == []


@pytest.mark.parametrize("ends", [False, True], ids=["kept", "given-back"])
async def test_dying_between_commit_and_settling_a_part(
    traveller: Person, ends: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody but the persister tells the part; the caller died."""

    async def die(*_: object) -> None:
        raise PersisterReplaced("dies here")

    deployment = traveller.deployment
    course = await traveller.begin(second=ELSEWHERE)
    if ends:
        await deployment.batcher.put(1, codec.cancel(course.id, new_op()))
    with monkeypatch.context() as patched:
        patched.setattr(rounds.Rounds, "_settle", die)
        with pytest.raises(PersisterReplaced):
            await deployment.persister().run()
    assert [part.state for part in await _parts(deployment)] == [b"s"]
    await _settled(deployment)
    assert [part.state for part in await _parts(deployment)] == ([] if ends else [b"b"])
    assert await differences(deployment) == []


async def _settled(deployment: Deployment) -> None:
    async def no_part_is_in_doubt() -> bool:
        return (
            all(part.state == b"b" for part in await _parts(deployment)) and await deployment.is_persisted()
        )

    persister = deployment.persister()
    working = asyncio.create_task(persister.run())
    await until(no_part_is_in_doubt, working)
    persister.stop()
    await working


async def _parts(deployment: Deployment) -> list[codec.Part]:
    """Those that have a seat."""
    found = []
    async for bucket in deployment.client.scan_iter(deployment.keyspace.all_people):
        for field, record in (await deployment.client.hgetall(bucket)).items():
            if codec.is_part(field) and record[:1] != b"x":
                found.append(codec.part(record))
    return found


# Quarantine -------------------------------------------------------------------------------------------------


class Forger:
    """Tells what no script told, of person 1's course."""

    def __init__(self, deployment: Deployment, course: CourseId) -> None:
        self.deployment = deployment
        self.course = course

    async def tell(
        self, kind: bytes, *told: tuple[bytes, Appointment], revision: int = 2, partition: int = 0
    ) -> None:
        until_ms = int(time.time() * 1000) + HOLD_MS if kind in b"hw" else 0
        entries = tuple(codec.Entry(*one) for one in told)
        now_ms = int(time.time() * 1000)
        event = codec.Event(kind, now_ms, self.course, revision, bytes(16), entries, until_ms)
        await self.deployment.add(partition, codec.pack_event(event))

    async def is_quarantined(self, *reasons: str) -> None:
        """So many events broke a proof; a good one after them is not held up."""
        await self.deployment.booked(99, 8)
        await self.deployment.persist()
        assert [row[0] for row in await self.deployment.rows(REASONS)] == list(reasons)
        assert await self.deployment.pool.fetchval(
            "select count(*) from course where person_key = $1", person_key(99).hex()
        )


@pytest.fixture(params=[False, True], ids=["one-batch", "two-batches"])
async def persisted(request: pytest.FixtureRequest, deployment: Deployment) -> Any:
    """Does nothing, or persists what there is."""

    async def nothing() -> None: ...

    return deployment.persist if request.param else nothing


async def test_what_is_not_held(deployment: Deployment, persisted: Any) -> None:
    course = await Person(deployment).begin()
    await persisted()
    forger = Forger(deployment, course.id)
    await forger.tell(b"c")
    await forger.tell(b"w")
    await forger.tell(b"e", *((RELEASED, seat) for seat in course.appointments))
    await forger.is_quarantined(*["course-not-live"] * 3)
    assert await differences(deployment) == []


async def test_what_is_not_booked(deployment: Deployment, persisted: Any) -> None:
    course = await Person(deployment).begin(HOLD_MS)
    await persisted()
    await Forger(deployment, course.id).tell(b"v", (RELEASED, course.appointments[1]))
    await Forger(deployment, course.id).is_quarantined("course-not-live")
    assert await differences(deployment) == []


@pytest.mark.parametrize("kind", [b"c", b"w", b"v", b"x", b"e"])
async def test_what_has_ended(deployment: Deployment, persisted: Any, kind: bytes) -> None:
    course = await deployment.booked(1, HOME)
    await deployment.cancelled(course)
    await persisted()
    told = () if kind in b"cw" else ((RELEASED, course.appointments[0]),)
    await Forger(deployment, course.id).tell(kind, *told, revision=3)
    await Forger(deployment, course.id).is_quarantined("course-not-live")
    assert await differences(deployment) == []


async def test_a_revision_that_was_there(deployment: Deployment, persisted: Any) -> None:
    person = Person(deployment)
    course = await person.begin(HOLD_MS)
    await person.extend(course)
    await persisted()
    await Forger(deployment, course.id).tell(b"c", revision=2)
    await Forger(deployment, course.id).is_quarantined("revision-repeated")
    assert await differences(deployment) == []


async def test_a_course_that_keeps_a_seat_though_it_ends(deployment: Deployment, persisted: Any) -> None:
    course = await deployment.booked(1, HOME)
    await persisted()
    await Forger(deployment, course.id).tell(b"x", (RELEASED, course.appointments[0]))
    await Forger(deployment, course.id).is_quarantined("half-ended")
    assert await differences(deployment) == []


async def test_a_part_that_a_course_keeps_though_it_ends(traveller: Person) -> None:
    course = await traveller.begin(second=ELSEWHERE)
    await traveller.deployment.persist()
    forger = Forger(traveller.deployment, course.id)
    await forger.tell(b"x", (RELEASED, course.appointments[0]), partition=1)
    await forger.is_quarantined("half-ended")


async def test_a_seat_that_the_course_does_not_have(deployment: Deployment, persisted: Any) -> None:
    first, second = (await deployment.booked(1, HOME)).appointments
    course = CourseId(person_key(1), Kind.PRIMARY, 1)
    await persisted()
    forger = Forger(deployment, course)
    await forger.tell(b"v", (RELEASED, Appointment(2, second.session, 1, second.seat)))
    await forger.tell(b"v", (RELEASED, Appointment(3, first.session, 1, 0)))
    await forger.tell(b"v", (LEFT, Appointment(2, second.session, 0, second.seat, 1, 3)))
    await forger.tell(b"r", (RELEASED, first), revision=1)
    await forger.is_quarantined(*["seat-not-live"] * 4)
    assert await differences(deployment) == []


async def test_a_move_to_a_seat_that_is_taken(deployment: Deployment, persisted: Any) -> None:
    first, second = (await deployment.booked(1, HOME)).appointments
    other = await deployment.booked(2, HOME)
    await persisted()
    forger = Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1))
    wanted = other.appointments[1]
    taken = Appointment(2, wanted.session, wanted.slot, wanted.seat, 2)
    await forger.tell(b"v", (TAKEN, taken), (RELEASED, second))
    # The course's own seat is no freer.
    await forger.tell(
        b"v", (TAKEN, Appointment(3, second.session, second.slot, second.seat, 2)), (RELEASED, first)
    )
    await forger.is_quarantined("seat-taken", "seat-taken")
    assert await differences(deployment) == []


async def test_a_move_takes_what_it_gives_back(deployment: Deployment, persisted: Any) -> None:
    """It takes first, so the seat is not free yet; where one event told both it would be told of twice."""
    first, _ = (await deployment.booked(1, HOME)).appointments
    await persisted()
    forger = Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1))
    again = Appointment(1, first.session, first.slot, first.seat, 2)
    await forger.tell(b"v", (TAKEN, again), (RELEASED, first))
    await forger.is_quarantined("malformed")
    assert await differences(deployment) == []


async def test_parts_prove_the_same(deployment: Deployment, persisted: Any) -> None:
    taken = (await deployment.booked(2, HOME)).appointments[0]
    await deployment.register(1)
    free = Appointment(1, taken.session, 1, 0)
    forger = Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1))
    stranger = Forger(deployment, CourseId(person_key(77), Kind.PRIMARY, 1))
    await forger.tell(b"a", (TAKEN, free), revision=1)
    await persisted()
    await forger.tell(b"a", (TAKEN, Appointment(1, taken.session, 1, 1)), revision=1)
    await forger.tell(b"a", (TAKEN, Appointment(2, taken.session, taken.slot, taken.seat)), revision=1)
    await forger.tell(b"a", (TAKEN, Appointment(2, taken.session, 9, 0)), revision=1)
    await forger.tell(b"a", (TAKEN, Appointment(2, 4_000_000_000, 0, 0)), revision=1)
    await stranger.tell(b"a", (TAKEN, Appointment(1, taken.session, 1, 2)), revision=1)
    await forger.is_quarantined(
        "part-repeated", "seat-taken", "seat-not-on-sale", "unknown-session", "unregistered-person"
    )


async def test_a_joined_seat_must_be_on_sale(deployment: Deployment) -> None:
    await deployment.register(1)
    first, second = deployment.sessions(HOME)
    forger = Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1))
    away = Appointment(2, second, 9, 0, 1, 3)
    await forger.tell(b"b", (TAKEN, Appointment(1, first, 0, 0)), (JOINED, away), revision=1)
    await forger.is_quarantined("seat-not-on-sale")


async def test_what_follows_from_a_broken_event_is_broken(deployment: Deployment, persisted: Any) -> None:
    """The move is quarantined, so the seat that it would have given back stays taken, and its course live."""
    first, second = (await deployment.booked(1, HOME)).appointments
    await deployment.register(2)
    await persisted()
    forger = Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1))
    nowhere = Appointment(2, second.session, 9, 0, 2)
    await forger.tell(b"v", (TAKEN, nowhere), (RELEASED, second))
    other = Forger(deployment, CourseId(person_key(2), Kind.PRIMARY, 1))
    await other.tell(b"b", (TAKEN, Appointment(1, second.session, second.slot, second.seat)), revision=1)
    await forger.tell(b"x", (RELEASED, first), (RELEASED, nowhere), revision=3)
    await forger.is_quarantined("seat-not-on-sale", "seat-taken", "half-ended")
    assert await differences(deployment) == []


async def test_a_part_tells_its_home(deployment: Deployment) -> None:
    await deployment.register(1)
    seat = Appointment(2, deployment.sessions(HOME)[0], 1, 0, 1, 3)
    await Forger(deployment, CourseId(person_key(1), Kind.PRIMARY, 1)).tell(b"a", (TAKEN, seat), revision=1)
    await deployment.persist()
    assert await deployment.rows("select place, home, op, live, joined from appointment") == [
        (0, 3, bytes(16), True, False)
    ]
