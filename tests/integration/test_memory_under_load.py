"""Redis is filled to ``maxmemory`` by many at once: nothing torn, what gives back passes, and it drains."""

import asyncio
import secrets
from collections import Counter, deque
from collections.abc import AsyncIterator
from typing import Any

import pytest

from engine import limits
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.drive import start
from engine.booking.move import settle_part
from engine.booking.outcomes import Booked, Cancelled
from engine.booking.resolve import resolve
from engine.capacity.catalogue import Catalogue
from engine.capacity.open import Inventory, open_sessions
from engine.domain.course import Course, Kind, Op, Wish
from engine.errors import StoreFull
from engine.inventory import codec
from engine.recovery.sweep import Sweep
from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer
from engine.storage import persons
from tests.deployment import LOCATIONS, Deployment, location, plans, until
from tests.world import person_key

PARTITIONS = 4
SLOTS, LINES = 20, 48
PEOPLE = 6_000
WRITERS = 40
# Room for some thousand bookings with their events: more than what connections buffer now and then.
ROOM_BYTES = 600_000
LARGE = range(LOCATIONS + 1, 2 * LOCATIONS + 1)


class Load:
    """Writers over one deployment; each books new people, and now and then cancels what it has booked."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.live: dict[int, Course] = {}
        self.seen: Counter[str] = Counter()
        self._waiting = deque(range(PEOPLE))
        self._stopping = False

    async def has_seen(self, what: str, least: int) -> bool:
        """Whether something has happened so often."""
        return self.seen[what] >= least

    def stop(self) -> None:
        """Every writer ends after what it is doing."""
        self._stopping = True

    async def write(self) -> None:
        """One writer. Nothing but a full store may refuse a booking, and nothing at all a cancellation."""
        mine: list[int] = []
        while not self._stopping:
            person = self._waiting.popleft()
            try:
                self.live[person] = await self.booked(person)
            except StoreFull:
                self.seen["refused"] += 1
                self._waiting.append(person)
            else:
                self.seen["booked"] += 1
                mine.append(person)
            if mine and secrets.randbelow(3) == 0:
                await self.cancel(mine.pop())

    async def booked(self, person: int) -> Course:
        """Somebody's booking at a location of theirs."""
        number = LARGE[person % len(LARGE)]
        sessions = self.deployment.sessions(number)
        slot = secrets.randbelow(SLOTS)
        wishes = tuple(Wish(dose, session, slot) for dose, session in zip((1, 2), sessions, strict=True))
        request = Request(new_op(), number, (Seeker(person_key(person), Kind.PRIMARY, wishes),))
        outcome: Any = await start(book(request, self.deployment.placement), self.deployment.batcher)
        assert isinstance(outcome, Booked), outcome
        return outcome.course

    async def cancel(self, person: int) -> None:
        """The booking undone, unless another writer has done so."""
        course = self.live.pop(person, None)
        if course is None:
            return
        steps = cancel(course.id, course.location, new_op(), self.deployment.placement)
        outcome = await start(steps, self.deployment.batcher)
        assert isinstance(outcome, Cancelled), outcome
        self.seen["cancelled"] += 1


def new_op() -> Op:
    """An op that nobody has used."""
    return Op(secrets.token_bytes(8), bytes(8))


@pytest.fixture
async def load(database_url: str, hasty: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Load]:
    """Everybody is registered, and a Redis of its own has room for some of them."""
    monkeypatch.setattr(limits, "OUTBOX_TAIL_EVENTS", 10)
    monkeypatch.setattr(limits, "TRIM_EVENTS_MIN", 10)
    with DataDir.make_temporary() as data, RedisServer(data) as server:
        async with Deployment(server.url, database_url, PARTITIONS) as deployment:
            inventory = Inventory(deployment.nodes, deployment.batcher)
            sessions = [plan for number in LARGE for plan in plans(number, SLOTS, LINES)]
            await open_sessions(deployment.pool, inventory, [location(number) for number in LARGE], sessions)
            deployment.catalogue = await Catalogue.load(deployment.pool)
            rows = [persons.NewRow(new_op(), person_key(number), b"sealed") for number in range(PEOPLE)]
            await persons.register(deployment.pool, rows)
            used = (await deployment.client.info("memory"))["used_memory"]
            await deployment.client.config_set("maxmemory", used + ROOM_BYTES)
            yield Load(deployment)


async def swept(deployment: Deployment) -> int:
    """How many claims two passes of the sweep have found, and resolved."""

    async def settled(person: bytes, kind: int, live: codec.Live) -> bool:
        return await start(resolve(person, kind, live, deployment.placement), deployment.batcher)

    async def kept(part: codec.PartId, record: codec.Part, where: int) -> bool:
        return await start(settle_part(part, record, where), deployment.batcher)

    sweep = Sweep(deployment.nodes, settled, kept, deployment.said.append)
    return await sweep.once() + await sweep.once()


async def check_nothing_is_torn(load: Load) -> None:
    """Postgres has everything, everything agrees, and the live courses are those that were told."""
    deployment = load.deployment
    await deployment.persist()
    assert await swept(deployment) == 0, "a claim was left behind"
    report = await deployment.audit()
    assert report.is_clean, report.first
    rows = await deployment.rows("select person_key, generation from course where state = 'b'")
    told = {(course.id.person, course.id.generation) for course in load.live.values()}
    assert {(person.bytes, generation) for person, generation in rows} == told


async def fill(load: Load) -> list["asyncio.Task[None]"]:
    """Writers that have been refused some hundred times, and have cancelled since."""
    writers = [asyncio.create_task(load.write()) for _ in range(WRITERS)]
    await until(lambda: load.has_seen("refused", 5 * WRITERS), *writers)
    cancelled = load.seen["cancelled"]
    booked = list(load.live)[: WRITERS // 4]
    await asyncio.gather(*map(load.cancel, booked))
    assert load.seen["cancelled"] >= cancelled + len(booked) > cancelled
    return writers


async def ended(load: Load, writers: list["asyncio.Task[None]"]) -> None:
    """Every writer has come home, and none has met anything unexpected."""
    load.stop()
    await asyncio.gather(*writers)


async def test_filled_by_many_at_once(load: Load) -> None:
    writers = await fill(load)
    info = await load.deployment.client.info("memory")
    assert info["used_memory"] > 0.9 * info["maxmemory"]
    await ended(load, writers)
    assert load.seen["booked"] > WRITERS
    await check_nothing_is_torn(load)


async def test_the_persister_gives_room_while_people_go_on_asking(load: Load) -> None:
    """What is committed is trimmed, at ``maxmemory`` too, and bookings find room again by themselves."""
    writers = await fill(load)
    booked = load.seen["booked"]
    persister = load.deployment.persister()
    working = asyncio.create_task(persister.run())
    await until(lambda: load.has_seen("booked", booked + WRITERS), working, *writers)
    await ended(load, writers)
    persister.stop()
    await working
    await check_nothing_is_torn(load)


async def test_with_more_memory_everybody_books_again(load: Load) -> None:
    writers = await fill(load)
    await load.deployment.client.config_set("maxmemory", 0)
    refused, booked = load.seen["refused"], load.seen["booked"]
    await until(lambda: load.has_seen("booked", booked + WRITERS), *writers)
    await ended(load, writers)
    assert load.seen["refused"] <= refused + WRITERS
    await check_nothing_is_torn(load)
