"""A small deployment on real stores: founded, a few locations open, people registered.

``Deployment`` books and cancels as the API does, runs the persister until Postgres has everything, and
audits.
"""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from redis.asyncio.cluster import RedisCluster

from engine.booking.aside import Away
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.drive import start
from engine.booking.move import Change, move
from engine.booking.outcomes import Booked, BookOutcome, Cancelled, Moved
from engine.booking.read import read_course
from engine.booking.steps import Outcome, Placement, Steps
from engine.capacity.catalogue import Catalogue
from engine.capacity.open import Inventory, Opened, open_sessions
from engine.domain.capacity import Location, SessionPlan
from engine.domain.course import Appointment, Course, CourseId, Kind, Op, Wish
from engine.domain.seats import all_free
from engine.inventory import codec
from engine.outbox.metrics import Metrics
from engine.outbox.persister import Persister, Stores
from engine.recovery.audit import Audit, Report
from engine.recovery.found import found
from engine.redis.acknowledge import Acknowledgement
from engine.redis.batch import Batcher
from engine.redis.connection import connect
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import CLUSTER, open_nodes
from engine.storage import persons
from engine.storage.migrate import migrate
from engine.storage.pool import connect_pool
from tests.world import person_key

VACCINE = "pfizer"
SLOTS, LINES, LOCATIONS = 2, 3, 8
DEADLINE_S = 20.0


def location(number: int) -> Location:
    """A location of the tiny country."""
    return Location(
        number, f"r{number}", "Centre", "1 rue", "75001", "Paris", "75", "11", 48.8, 2.3, "Europe/Paris"
    )


def plans(number: int, slots: int = SLOTS, lines: int = LINES) -> list[SessionPlan]:
    """A session for each dose."""
    mask = bytes(all_free(slots, lines))
    return [
        SessionPlan(number, VACCINE, date(2030, 1, d), _eight(d), 10, slots, lines, mask) for d in (1, 29)
    ]


def _eight(day: int) -> datetime:
    return datetime(2030, 1, day, 8, tzinfo=UTC)


class Deployment:
    """Stores and the parts of the engine that work on them. Enter it to set it up.

    With ``replicas``, so many must have what is told and what is committed.
    """

    def __init__(self, redis_url: str, database_url: str, partitions: int, replicas: int = 0) -> None:
        self.redis_url = redis_url
        self.database_url = database_url
        self.keyspace = Keyspace(partitions)
        self.replicas = replicas
        self.metrics = Metrics()
        self.said: list[str] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> "Deployment":
        self.pool: Any = await connect_pool(self.database_url)
        self._stack.push_async_callback(self.pool.close)
        async with self.pool.acquire() as connection:
            await migrate(connection)
        self.nodes = await self._stack.enter_async_context(open_nodes(self.redis_url, self.keyspace))
        self.client: Any = client_of(self.redis_url)
        self._stack.push_async_callback(self.client.aclose)
        await self.found()
        acknowledgement = Acknowledgement(replicas=self.replicas)
        self.batcher = Batcher(self.nodes, lambda partition: self.epochs[partition], acknowledgement)
        self._stack.push_async_callback(self.batcher.close)
        self.placement = Placement(self.keyspace, self.batcher.clocks.not_after)
        await self.open()
        self.catalogue = await Catalogue.load(self.pool)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._stack.aclose()

    async def found(self) -> dict[int, int]:
        """Found the partitions."""
        self.epochs = await found(self.pool, self.nodes)
        return self.epochs

    async def open(self) -> Opened:
        """Open the country."""
        numbers = range(1, LOCATIONS + 1)
        inventory = Inventory(self.nodes, self.batcher)
        sessions = [plan for number in numbers for plan in plans(number)]
        return await open_sessions(self.pool, inventory, [location(number) for number in numbers], sessions)

    def sessions(self, number: int) -> tuple[int, int]:
        """Sessions of a location for dose 1 and dose 2."""
        first, second = self.catalogue.sessions_of(number, VACCINE)
        return first.id, second.id

    def stock_key(self, session: int) -> bytes:
        """Key of a session's stock."""
        found_session = self.catalogue.session(session)
        assert found_session is not None
        return self.keyspace.session(self.keyspace.of_location(found_session.location), session)

    async def register(self, person: int) -> None:
        """Register a person, by a small number."""
        await persons.register(self.pool, [persons.NewRow(new_op(), person_key(person), b"sealed")])

    async def book(self, person: int, number: int, slots: tuple[int, int] = (0, 0)) -> BookOutcome:
        """Register and book."""
        await self.register(person)
        seeker = Seeker(person_key(person), Kind.PRIMARY, self.wishes(number, slots))
        return await self.run(book(Request(new_op(), number, (seeker,)), self.placement))

    async def run(self, steps: Steps[Outcome]) -> Outcome:
        """Drive a use case to its outcome."""
        return await start(steps, self.batcher)

    def wishes(self, number: int, slots: tuple[int, int] = (0, 0)) -> tuple[Wish, Wish]:
        """Wishes for both doses at a location."""
        (first, second), (slot_1, slot_2) = self.sessions(number), slots
        return Wish(1, first, slot_1), Wish(2, second, slot_2)

    async def begun(self, number: int, *seekers: Seeker, **options: Any) -> list[Course]:
        """Courses that begin together, with ``Request``'s options, which must succeed."""
        request = Request(new_op(), number, seekers, **options)
        outcome = await self.run(book(request, self.placement))
        assert isinstance(outcome, Booked), outcome
        return list(outcome.courses)

    async def held(
        self, person: int, number: int, slots: tuple[int, int] = (0, 0), hold_ms: int = 600_000
    ) -> Course:
        """Register and hold, which must succeed."""
        await self.register(person)
        seeker = Seeker(person_key(person), Kind.PRIMARY, self.wishes(number, slots))
        (course,) = await self.begun(number, seeker, hold_ms=hold_ms)
        return course

    async def split(self, person: int, number: int, other: int, slots: tuple[int, int] = (0, 0)) -> Course:
        """Register and book dose 1 at one location, dose 2 at another, which must succeed."""
        await self.register(person)
        first, second = self.wishes(number, slots)[0], self.wishes(other, slots)[1]
        seeker = Seeker(person_key(person), Kind.PRIMARY, (first,), (Away(other, second),))
        (course,) = await self.begun(number, seeker)
        return course

    async def moved(self, course: Course, ends: set[int], *wishes: Away) -> Course:
        """Change which seats a course has, which must succeed."""
        read = await self.run(read_course(course.id, course.location, self.placement))
        assert read is not None
        outcome = await self.run(move(Change(read, new_op(), frozenset(ends), wishes), self.placement))
        assert isinstance(outcome, Moved), outcome
        return outcome.course

    async def booked(self, person: int, number: int, slots: tuple[int, int] = (0, 0)) -> Course:
        """Book, which must succeed."""
        outcome = await self.book(person, number, slots)
        assert isinstance(outcome, Booked), outcome
        return outcome.course

    async def cancelled(self, course: Course) -> None:
        """Cancel, which must succeed."""
        outcome = await self.run(cancel(course.id, course.location, new_op(), self.placement))
        assert isinstance(outcome, Cancelled), outcome

    async def emit(
        self, partition: int, kind_of_event: bytes, course: CourseId, appointments: tuple[Appointment, ...]
    ) -> None:
        """Write an event that no script has written."""
        verb = codec.TAKEN if kind_of_event in codec.BEGINS else codec.RELEASED
        entries = tuple(codec.Entry(verb, appointment) for appointment in appointments)
        event = codec.Event(kind_of_event, int(time.time() * 1000), course, 1, bytes(16), entries)
        await self.add(partition, codec.pack_event(event))

    async def add(self, partition: int, payload: bytes) -> None:
        """Append anything to an outbox."""
        outbox, epoch = self.keyspace.outbox(partition), self.epochs[partition]
        await self.client.xadd(outbox, {"e": payload}, id=f"{epoch}-*")

    def persister(self) -> Persister:
        """A persister of this deployment."""
        stores = Stores(self.redis_url, self.database_url, self.keyspace, self.replicas)
        return Persister(stores, self.metrics, self.said.append)

    async def persist(self) -> None:
        """Run a persister until Postgres has every event, also those that settling brings about."""
        while True:
            persister = self.persister()
            working = asyncio.create_task(persister.run())
            try:
                await until(self.is_persisted, working)
            finally:
                persister.stop()
                await working
            if await self.is_persisted():
                return

    async def is_persisted(self) -> bool:
        """Whether Postgres has every event."""
        return all([await self.watermark(p) == await self.end(p) for p in range(self.keyspace.partitions)])

    async def watermark(self, partition: int = 0) -> int:
        """Last event that Postgres has."""
        watermark: int = await self.pool.fetchval(
            "select watermark from partition where partition = $1", partition
        )
        return watermark

    async def end(self, partition: int = 0) -> int:
        """Last event of an outbox."""
        entries = await self.client.xrevrange(self.keyspace.outbox(partition), count=1)
        return int(entries[0][0].partition(b"-")[2]) if entries else -1

    async def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Rows of a query as tuples."""
        return [tuple(row) for row in await self.pool.fetch(sql)]

    async def audit(self, *acks: Path) -> Report:
        """Audit the deployment."""
        async with self.pool.acquire() as connection:
            return await Audit(connection, self.nodes, (acks, lambda text: None), self.said.append).run()


def new_op() -> Op:
    """An op that nobody has used."""
    return Op(secrets.token_bytes(8), bytes(8))


def client_of(redis_url: str) -> Any:
    """A client for what a test does to Redis by hand, on one server or on a cluster."""
    if redis_url.startswith(f"{CLUSTER}://"):
        host, port = redis_url.removeprefix(f"{CLUSTER}://").partition(",")[0].split(":")
        return RedisCluster(host, int(port), protocol=2)
    return connect(redis_url)


async def until(condition: Callable[[], Awaitable[bool]], *working: "asyncio.Task[Any]") -> None:
    """Wait for a condition, as long as the tasks that work on it live, at most ``DEADLINE_S``."""
    async with asyncio.timeout(DEADLINE_S):
        while not await condition():
            for task in working:
                assert not task.done(), task.exception()
            await asyncio.sleep(0.01)
