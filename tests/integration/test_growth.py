"""What the table of growth says a thing takes is what it takes, on real stores: never less, at most double.

Everything is made as the engine makes it, some thousands at a time, as dense as it lies in a full country.
"""

import asyncio
import gc
import secrets
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from engine import limits
from engine.availability.board import Board
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.drive import start
from engine.booking.hold import Extension, extend
from engine.booking.outcomes import Booked
from engine.capacity.catalogue import Catalogue
from engine.capacity.open import Inventory, open_sessions
from engine.domain.course import Appointment, Course, CourseId, Kind, Op, Wish
from engine.domain.seats import all_free
from engine.inventory import codec
from engine.outbox import commit
from engine.outbox.feed import Feed, Position
from engine.outbox.standing import Standing
from engine.persons.register import NewPerson, Registrar
from engine.privacy.references import BookingRef, References
from engine.privacy.seal import Place, PlainSealer
from engine.recovery.acks import AckWriter
from engine.storage import persons
from engine.storage.pool import PERSISTER, connect_alone
from tests.deployment import Deployment, location, plans

# A full country has some 150 people in a bucket; these are as many in a few of them, with room for history.
PEOPLE, BUCKETS, HISTORY, MOVES = 12_800, 128, 6, 4
OLD_HANDS = 3_200
TYPICAL_SLOTS, TYPICAL_LINES = 72, 8
SESSIONS = 4_000
LARGE, LARGE_LINES = 9, 48


class Measured:
    """What a row of the table says, held against what was measured."""

    def __init__(self) -> None:
        self.found: dict[str, float] = {}

    def note(self, what: str, total: float, items: int) -> None:
        """So many items took so many bytes."""
        self.found[what] = total / items

    def check(self) -> None:
        """Fail with every row that says less than was measured, or more than double."""
        said = {row.what: row.bytes_each for row in limits.GROWTH}
        wrong = {
            what: f"measured {size:.0f}, the table says {said[what]}"
            for what, size in self.found.items()
            if not size <= said[what] <= 2 * size
        }
        assert not wrong, wrong


@pytest.fixture
def measured() -> Measured:
    """Nothing yet."""
    return Measured()


def key_of(number: int) -> bytes:
    """A person key like a real one, but in one of a few buckets."""
    return (number % BUCKETS).to_bytes(2, "little") + sha256(b"%d" % number).digest()[:14]


def somebody(number: int) -> NewPerson:
    """Particulars of a usual length."""
    name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
    email = f"marie.{name}@example.org"
    return NewPerson(f"Marchand {name}", "Marie Paule", date(1950, 1, 31), email=email, phone="+33612345678")


class Crowd:
    """People of one deployment at its large locations, by number."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._places = [deployment.sessions(number) for number in (LARGE, LARGE + 1)]

    async def register(self, numbers: Iterable[int]) -> None:
        """Rows in Postgres, as the registrar writes them."""
        sealer = PlainSealer()
        rows = []
        for number in numbers:
            key = key_of(number)
            sealed = sealer.seal(Place("person", "sealed", key), somebody(number))
            rows.append(persons.NewRow(new_op(), key, sealed))
        for at in range(0, len(rows), limits.REGISTER_ROWS_MAX):
            await persons.register(self._deployment.pool, rows[at : at + limits.REGISTER_ROWS_MAX])

    def booking(self, number: int, hold_ms: int = 0) -> "asyncio.Future[Any]":
        """A booking or a hold, begun."""
        first, second = self._places[number % 2]
        slot = number // 2 % (PEOPLE // LARGE_LINES)
        wishes = Wish(1, first, slot), Wish(2, second, slot)
        seeker = Seeker(key_of(number), Kind.PRIMARY, wishes)
        request = Request(new_op(), LARGE + number % 2, (seeker,), hold_ms)
        return start(book(request, self._deployment.placement), self._deployment.batcher)

    async def book(self, numbers: Iterable[int], hold_ms: int = 0) -> list[Course]:
        """All of them, and all succeed."""
        outcomes = await asyncio.gather(*(self.booking(number, hold_ms) for number in numbers))
        assert all(isinstance(outcome, Booked) for outcome in outcomes), outcomes[0]
        return [outcome.course for outcome in outcomes]

    async def change_dose_2(self, courses: Iterable[Course], revision: int) -> None:
        """All of them get another seat of the same slot."""
        batcher, deadline = self._deployment.batcher, self._deployment.placement.not_after(0)
        records = []
        for course in courses:
            old = course.appointments[1]
            wish = Wish(2, old.session, old.slot)
            change = codec.Move(course.id, new_op(), revision, deadline, frozenset({2}), (wish,))
            records.append(codec.move(change))
        answers = await asyncio.gather(*(batcher.put(0, record) for record in records))
        assert {answer[:1] for answer in answers} == {b"V"}

    async def set_aside(self, numbers: Iterable[int]) -> None:
        """A seat for each, of a course whose home is elsewhere."""
        batcher, deadline = self._deployment.batcher, self._deployment.placement.not_after(0)
        asks = []
        for number in numbers:
            wish = Wish(2, self._places[number % 2][1], number // 2 % (PEOPLE // LARGE_LINES))
            course = CourseId(key_of(number), Kind.BOOSTER, 1)
            asks.append(codec.Aside(course, 1, new_op(), 1, deadline, (wish,)))
        answers = await asyncio.gather(*(batcher.put(0, codec.aside(ask)) for ask in asks))
        assert {answer[:1] for answer in answers} == {b"A"}

    async def extend(self, courses: Iterable[Course]) -> None:
        """All of these holds."""
        placement, batcher = self._deployment.placement, self._deployment.batcher
        by = Extension(900_000, 2)
        await asyncio.gather(
            *(start(extend([c.id], c.location, new_op(), by, placement), batcher) for c in courses)
        )

    async def cancel(self, courses: Iterable[Course]) -> None:
        """All of them."""
        placement, batcher = self._deployment.placement, self._deployment.batcher
        await asyncio.gather(
            *(start(cancel(c.id, c.location, new_op(), placement), batcher) for c in courses)
        )


async def people_bytes(deployment: Deployment) -> int:
    """Bytes of the buckets in Redis: guards, courses, tombstones."""
    client, pattern = deployment.client, deployment.keyspace.people(0)
    keys = [key async for key in client.scan_iter(pattern, count=limits.SCAN_KEYS_MAX)]
    sizes = await asyncio.gather(*(client.memory_usage(key, samples=0) for key in keys))
    return sum(sizes)


async def used_bytes(deployment: Deployment) -> int:
    """Bytes of all that is stored in Redis, without connections and buffers."""
    info = await deployment.client.info("memory")
    return int(info["used_memory"] - info["mem_clients_normal"] - info["mem_aof_buffer"])


def new_op() -> Op:
    """As an Idempotency-Key and a body make one."""
    return Op(secrets.token_bytes(8), secrets.token_bytes(8))


@pytest.fixture
async def crowd(deployment: Deployment) -> Crowd:
    """One partition with two large locations beside the others."""
    inventory = Inventory(deployment.nodes, deployment.batcher)
    numbers = (LARGE, LARGE + 1)
    sessions = [plan for n in numbers for plan in plans(n, PEOPLE // LARGE_LINES + 1, LARGE_LINES)]
    await open_sessions(deployment.pool, inventory, [location(n) for n in numbers], sessions)
    deployment.catalogue = await Catalogue.load(deployment.pool)
    return Crowd(deployment)


async def relation_bytes(deployment: Deployment, *tables: str) -> int:
    """Tables with their indexes."""
    rows = await deployment.pool.fetch(
        "select pg_total_relation_size(t::regclass) from unnest($1::text[]) t", tables
    )
    return sum(row[0] for row in rows)


async def test_courses_and_their_history(crowd: Crowd, deployment: Deployment, measured: Measured) -> None:
    before = await used_bytes(deployment)
    courses = await crowd.book(range(PEOPLE))
    measured.note("live course with its guard", await people_bytes(deployment), PEOPLE)
    measured.note(
        "event in an outbox", await used_bytes(deployment) - before - await people_bytes(deployment), PEOPLE
    )

    # Somebody's first four cancellations are kept in the guard, the courses of all of them stay.
    old = courses[:OLD_HANDS]
    grown = []
    for _ in range(HISTORY):
        at = await people_bytes(deployment)
        await crowd.cancel(old)
        old = await crowd.book(range(OLD_HANDS))
        grown.append(await people_bytes(deployment) - at)
    measured.note("cancelled course", grown[-1], OLD_HANDS)
    measured.note("op in a guard's memory", sum(grown[:4]) / 4 - grown[-1], OLD_HANDS)

    at = await people_bytes(deployment)
    buried = [CourseId(key_of(number), Kind.PRIMARY, 1_000) for number in range(OLD_HANDS)]
    await asyncio.gather(*(deployment.batcher.put(0, codec.resolve(course)) for course in buried))
    measured.note("tombstone", await people_bytes(deployment) - at, OLD_HANDS)

    at = await people_bytes(deployment)
    for revision in range(1, MOVES + 1):
        await crowd.change_dose_2(old, revision)
    measured.note(
        "change that a course remembers", await people_bytes(deployment) - at, OLD_HANDS * (MOVES + 1)
    )

    at = await people_bytes(deployment)
    await crowd.set_aside(range(OLD_HANDS))
    measured.note("seat elsewhere", await people_bytes(deployment) - at, OLD_HANDS)

    at = await used_bytes(deployment)
    alone = [sha256(b"%d" % number).digest()[:16] for number in range(PEOPLE)]
    await asyncio.gather(*(deployment.batcher.put(0, codec.resolve(CourseId(p, 0, 1))) for p in alone))
    buckets = {person[:2] for person in alone}
    rest = PEOPLE * measured.found["tombstone"]
    measured.note("bucket of people", await used_bytes(deployment) - at - rest, len(buckets))
    measured.check()


async def test_holds(crowd: Crowd, deployment: Deployment, measured: Measured) -> None:
    """As many as are ever held at once, beside what a booked course takes."""
    courses = await crowd.book(range(OLD_HANDS), hold_ms=600_000)
    holds = await deployment.client.memory_usage(deployment.keyspace.holds(0), samples=0)
    measured.note("hold that runs", holds, OLD_HANDS)
    at = await people_bytes(deployment)
    await crowd.extend(courses)
    grown = (await people_bytes(deployment) - at) / OLD_HANDS
    (said,) = (row.bytes_each for row in limits.GROWTH if row.what == "change that a course remembers")
    assert grown <= said
    measured.check()


async def test_rows_and_files(
    crowd: Crowd, deployment: Deployment, measured: Measured, tmp_path: Path
) -> None:
    people = range(PEOPLE)
    empty = await relation_bytes(deployment, "person"), await relation_bytes(deployment, "registration")
    await crowd.register(people)
    measured.note("person", await relation_bytes(deployment, "person") - empty[0], PEOPLE)
    measured.note("registration", await relation_bytes(deployment, "registration") - empty[1], PEOPLE)

    appended = await aof_bytes(deployment)
    courses = await crowd.book(people)
    measured.note(
        "appended to the append-only file by a booking", await aof_bytes(deployment) - appended, PEOPLE
    )
    tables = "course", "appointment"
    at, written = await relation_bytes(deployment, *tables), await wal_bytes(deployment)
    await deployment.persist()
    measured.note("course with its appointments", await relation_bytes(deployment, *tables) - at, PEOPLE)
    measured.note("WAL of a booking", await wal_bytes(deployment) - written, PEOPLE)

    log, references = tmp_path / "acks.jsonl", References(bytes(32))
    with AckWriter(log) as writer:
        for course in courses[:1_000]:
            ref = BookingRef(course.id.person, course.id.kind, course.id.generation, course.location)
            writer.by_reference("book", references.of_booking(ref), course.appointments, 1_800_000_000_000)
    measured.note("line of an acknowledgement log", log.stat().st_size, 1_000)
    measured.check()


async def aof_bytes(deployment: Deployment) -> int:
    """Bytes of the append-only file."""
    return int((await deployment.client.info("persistence"))["aof_current_size"])


async def wal_bytes(deployment: Deployment) -> int:
    """Where the write-ahead log of Postgres ends."""
    return int(await deployment.pool.fetchval("select pg_current_wal_insert_lsn() - '0/0'"))


async def test_quarantined_events(deployment: Deployment, measured: Measured) -> None:
    """Events of people whom Postgres does not know."""
    broken = range(2_000)
    empty = await relation_bytes(deployment, "quarantine")
    first, second = deployment.sessions(1)
    for number in broken:
        course = CourseId(key_of(number), Kind.PRIMARY, 1)
        await deployment.emit(0, b"b", course, (Appointment(1, first, 0, 0), Appointment(2, second, 0, 0)))
    await deployment.persist()
    measured.note("quarantined event", await relation_bytes(deployment, "quarantine") - empty, len(broken))
    measured.check()


async def test_sessions(deployment: Deployment, measured: Measured) -> None:
    """A country of usual sessions: their stocks, their rows, and what an API process keeps of them."""
    inventory = Inventory(deployment.nodes, deployment.batcher)
    numbers = range(LARGE, LARGE + SESSIONS // 2)
    sessions = [plan for n in numbers for plan in plans(n, TYPICAL_SLOTS, TYPICAL_LINES)]
    size = await deployment.pool.fetchval("select pg_database_size(current_database())")
    measured.note("schema", size, 1)
    empty = await relation_bytes(deployment, "session"), await used_bytes(deployment)
    await open_sessions(deployment.pool, inventory, [location(n) for n in numbers], sessions)
    measured.note("session's stock", await used_bytes(deployment) - empty[1], SESSIONS)
    measured.note("session", await relation_bytes(deployment, "session") - empty[0], SESSIONS)

    with allocations() as taken:
        catalogue = await Catalogue.load(deployment.pool)
        board = Board(catalogue.sessions.values())
        for session in catalogue.sessions:
            board.load(session, 1, bytes(all_free(TYPICAL_SLOTS, TYPICAL_LINES)))
        measured.note("session in catalogue and board", taken(), len(catalogue.sessions))
    measured.check()


@contextmanager
def allocations() -> Iterator[Callable[[], int]]:
    """Bytes that Python objects have come to take since it was entered."""
    gc.collect()
    tracemalloc.start()
    at = tracemalloc.get_traced_memory()[0]
    try:
        yield lambda: tracemalloc.get_traced_memory()[0] - at
    finally:
        tracemalloc.stop()


async def test_what_waits_in_a_process(crowd: Crowd, deployment: Deployment, measured: Measured) -> None:
    """Nothing is sent while the loop is not given back, so all of it waits."""
    with allocations() as taken:
        bookings = [crowd.booking(number) for number in range(4_000)]
        measured.note("operation queued or under way, with its booking", taken(), len(bookings))
    await asyncio.gather(*bookings)
    del bookings

    registrar = Registrar(deployment.pool, bytes(32), PlainSealer())
    with allocations() as taken:
        people = [
            asyncio.ensure_future(registrar.register(somebody(n), f"key-{n:032}")) for n in range(4_000)
        ]
        await asyncio.sleep(0)
        measured.note("registration queued", taken(), len(people))
    await asyncio.gather(*people)
    del people

    standing = Standing(deployment.database_url, deployment.nodes)
    await standing.refresh()
    events = [b"%d-%d" % (standing.epoch(0), 10**6 + number) for number in range(4_000)]
    with allocations() as taken:
        waits = [standing.committed(0)(event) for event in events]
        measured.note("call that waits for Postgres", taken(), len(waits))
    for wait in waits:
        assert wait is not None
        wait.cancel()
    await standing.close()
    measured.check()


async def test_a_round_of_the_persister(crowd: Crowd, deployment: Deployment, measured: Measured) -> None:
    people = range(limits.PERSIST_EVENTS_MAX)
    await crowd.register(people)
    await crowd.book(people)
    connection = await connect_alone(deployment.database_url, PERSISTER)
    await commit.prepare(connection)
    positions = {0: Position(deployment.epochs[0], -1)}
    with allocations():
        read = await Feed(deployment.nodes).read(positions, limits.PERSIST_EVENTS_MAX)
        await commit.commit(connection, read.entries, positions, cut=read.cut)
        measured.note("event of a round", tracemalloc.get_traced_memory()[1], len(people))
    await connection.close()
    measured.check()


async def test_the_library(deployment: Deployment) -> None:
    """Its Lua machine collects when it has doubled, so one measurement may be half of the next."""
    info = await deployment.client.info("memory")
    size = info["used_memory_functions"] + info["used_memory_vm_functions"]
    (said,) = (row.bytes_each for row in limits.GROWTH if row.what == "library")
    assert size <= said <= 4 * size
