"""Postgres is stopped for real: people go on booking until the backlog's bound, and it drains afterwards."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from engine import limits
from engine.booking.changes import Place
from engine.booking.desk import Applicant, Order, Pending
from engine.booking.outcomes import Booked, Cancelled
from engine.booking.pressure import Level
from engine.bootstrap import Engine, open_engine
from engine.domain.course import Course, Kind
from engine.domain.person import Facts
from engine.errors import Backlogged, StorageAway
from engine.inventory import codec
from engine.outbox.metrics import Metrics
from engine.outbox.persister import Persister, Stores
from engine.persons.register import NewPerson
from engine.recovery.audit import Audit, Report
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from engine.storage.pool import connect_alone
from tests.campaign import AMPLE, SLOTS, Campaign, open_campaign, wishes_of
from tests.deployment import until

BOUND = 40
PEOPLE = 60
DAYS = ((1, 31), (2, 32))
BORN = date(1950, 1, 31)


class Site:
    """A process's engine over the campaign, a persister, and Postgres to be stopped."""

    def __init__(
        self, settings: Settings, postgres: PostgresServer, campaign: Campaign, engine: Engine
    ) -> None:
        self.settings = settings
        self.postgres = postgres
        self.campaign = campaign
        self.engine = engine
        self.keyspace = Keyspace(settings.partitions)
        self.people: list[bytes] = []

    async def register(self, number: int) -> bytes:
        """A person's key."""
        name = "".join(chr(ord("a") + int(digit)) for digit in str(number))
        person = await self.engine.registrar.register(NewPerson(name, "Ana", BORN), f"key-{number}")
        assert isinstance(person, bytes)
        return person

    async def book(self, number: int) -> Any:
        """A registered person's booking, always the same for the same number."""
        days = DAYS[number % len(DAYS)]
        wishes = wishes_of(self.campaign.wishes(AMPLE, number // len(DAYS) % SLOTS, days))
        applicant = Applicant(self.people[number], Facts(BORN), wishes)
        return await self.engine.desk.book(Order((applicant,)), f"book-{number}")

    async def booked(self, number: int) -> Course:
        """The booking, which must be let in."""
        outcome = await self.book(number)
        assert isinstance(outcome, Booked), outcome
        return outcome.course

    async def is_refused(self, number: int) -> bool:
        """Whether the booking is not let in; it must succeed otherwise."""
        try:
            await self.booked(number)
        except Backlogged:
            return True
        return False

    async def asked(self, course: Course) -> Pending:
        """What somebody holds who was not told of the booking."""
        partition = self.keyspace.of_location(course.location)
        record = await self.engine.batcher.put(partition, codec.read_course(course.id))
        _, packed = codec.begun(record[1:])
        return Pending(course.id.person, Kind.PRIMARY, codec.course(packed).op, 0)

    async def is_seen(self, events: int) -> bool:
        """Whether the process knows that so many events wait for Postgres."""
        return round(self.engine.pressure.worst * limits.BACKLOG_EVENTS_MAX) == events

    async def audit(self) -> Report:
        """Everything against everything."""
        connection = await connect_alone(self.settings.database_url)
        try:
            async with open_nodes(self.settings.redis_url, self.keyspace) as nodes:
                return await Audit(connection, nodes, ((), lambda text: None), lambda text: None).run()
        finally:
            await connection.close()


@pytest.fixture(scope="module")
def own_postgres() -> Iterator[PostgresServer]:
    """One that these tests may stop."""
    with DataDir.make_temporary() as data, PostgresServer(data) as server:
        yield server


@pytest.fixture(params=[1, 3], ids=["one-partition", "three-partitions"])
async def site(
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    own_postgres: PostgresServer,
    hasty: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Site]:
    """Everybody is registered, and Postgres has all there is."""
    monkeypatch.setattr(limits, "BACKLOG_EVENTS_MAX", BOUND)
    monkeypatch.setattr(limits, "STANDING_S", 0.02)
    monkeypatch.setattr(limits, "FOLLOW_PAUSE_S", 0.005)
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.flushall()
    database = await own_postgres.create_database(f"away_{secrets.token_hex(4)}")
    settings = Settings(redis_server.url, database, tmp_path / "secrets", request.param)
    campaign = await open_campaign(settings)
    stores = Stores(settings.redis_url, database, Keyspace(settings.partitions))
    persister = Persister(stores, Metrics(), lambda line: None)
    working = asyncio.create_task(persister.run())
    async with AsyncExitStack() as stack:
        site = Site(settings, own_postgres, campaign, await stack.enter_async_context(open_engine(settings)))
        site.people = [await site.register(number) for number in range(PEOPLE)]
        await until(lambda: site.is_seen(0), working)
        yield site
        persister.stop()
        await working


async def filled(site: Site) -> tuple[list[int], int]:
    """Book until the bound is reached; who has booked, and how many were refused on the way.

    The process has seen each booking before the next is asked for.
    """
    done: list[int] = []
    refusals = 0
    waiting = list(range(PEOPLE))
    while len(done) < BOUND:
        number = waiting.pop(0)
        if await site.is_refused(number):
            refusals += 1
            waiting.append(number)
            assert len(done) > BOUND * limits.PRESSURE_SLOW, "refused long before the bound"
        else:
            done.append(number)
            await until(lambda: site.is_seen(len(done)))
    return done, refusals


@contextmanager
def without_postgres(site: Site) -> Iterator[None]:
    """Postgres is stopped, and back afterwards.

    Not in another thread: a server ends with the thread that has started it.
    """
    site.postgres.stop()
    try:
        yield
    finally:
        site.postgres.start()


async def test_people_book_until_the_bound_and_it_drains(site: Site) -> None:
    with without_postgres(site):
        done, refusals = await filled(site)
        assert refusals > 0, "nothing was slowed down"
        late = [number for number in range(PEOPLE) if number not in done]
        assert all([await site.is_refused(number) for number in late])
        assert site.engine.pressure.level(site.keyspace.of_location(AMPLE)) is Level.BOOKINGS
        with pytest.raises(StorageAway):
            await site.register(PEOPLE)

    await until(lambda: site.is_seen(0))
    assert not any([await site.is_refused(number) for number in late[: int(BOUND * limits.PRESSURE_SLOW)]])
    assert len(await site.register(PEOPLE)) == len(site.people[0])
    await until(lambda: site.is_seen(0))
    report = await site.audit()
    assert report.is_clean, report.first


async def test_at_the_bound_all_else_goes_on(site: Site) -> None:
    with without_postgres(site):
        done, _ = await filled(site)
        courses = [await site.booked(number) for number in done]
        assert len({course.id for course in courses}) == BOUND
        assert await site.is_seen(BOUND), "asking again has booked something"

        first, changes = courses[0], site.engine.changes
        place = Place(first.id, first.location)
        read = await changes.read(place)
        assert read is not None
        assert (read.state, read.appointments) == ("booked", first.appointments)
        assert await site.engine.desk.operation(await site.asked(first)) == read
        assert isinstance(await changes.cancel(place, "cancel-1"), Cancelled)
        cancelled = await changes.read(place)
        assert cancelled is not None
        assert cancelled.state == "ended"
        await until(lambda: site.is_seen(BOUND + 1))

    await until(lambda: site.is_seen(0))
    report = await site.audit()
    assert report.is_clean, report.first
