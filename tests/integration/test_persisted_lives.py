"""However a history is cut into batches, the same rows come of it, and no proof is broken."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from redis import Redis

from engine.booking.aside import Away, aside
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.hold import Extension, confirm, extend
from engine.booking.move import Change, move, settle_part
from engine.booking.outcomes import Booked
from engine.booking.read import read_course
from engine.domain.course import Course, CourseId, Kind, Op, Wish
from engine.domain.seats import all_free
from engine.inventory import codec
from engine.outbox import commit
from engine.outbox.feed import Entry, Position
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.storage.migrate import migrate
from engine.storage.pool import connect_alone
from engine.storage.queries import query
from tests.world import EPOCH, Location, World, person_key

PARTITIONS = 3
LOCATIONS = tuple(Location(number, 2, 2) for number in (1, 2, 3))
PEOPLE, OFFERS = range(1, 7), 20
BEGINNINGS = ("book", "hold", "household", "lapse", "offer", "settle")
ACTS = (*BEGINNINGS, "confirm", "extend", "move", "drop", "cancel", "stray")
LIVE = ("booked", "held")
WANTED = {"confirm": ("held",), "extend": ("held",), "move": ("booked",), "drop": ("booked",)}
QUERIES = {
    "course": "select * from course",
    "appointment": "select * from appointment",
    "change": "select * from change",
    "quarantine": "select partition, sequence, reason from quarantine",
}
OPEN = """
insert into session overriding system value values ($1, $2, 'v', '2030-01-01', $3, 10, $4, $5, $6)
"""


class Lives:
    """People who do this and that, each at a home of their own; every act is one of the protocol's."""

    def __init__(self, redis: Any) -> None:
        self.world = World(redis, PARTITIONS, LOCATIONS)
        self.courses: dict[int, CourseId] = {}
        self.ops = 0

    def do(self, act: str, person: int, where: int) -> None:
        """One act; one that is refused changes nothing. What needs a course is done to one that lives."""
        if act in BEGINNINGS:
            getattr(self, f"_{act}")(person, where)
        elif live := [c for c in map(self._course, sorted(self.courses)) if c.state in WANTED.get(act, LIVE)]:
            getattr(self, f"_{act}")(live[person % len(live)], where)

    def entries(self) -> dict[int, list[Entry]]:
        """All that the outboxes tell."""
        found = {}
        for partition in range(PARTITIONS):
            items = self.world.redis.xrange(self.world.keyspace.outbox(partition))
            found[partition] = [Entry(partition, n, fields[b"e"]) for n, (_, fields) in enumerate(items)]
        return {partition: items for partition, items in found.items() if items}

    def _course(self, person: int) -> Course:
        found: Course = self.world.run(read_course(self.courses[person], _home(person), self.world.placement))
        return found

    def _op(self) -> Op:
        self.ops += 1
        return Op(b"%08d" % self.ops, bytes(8))

    def _seeker(self, person: int, where: int, kind: int = Kind.PRIMARY) -> Seeker:
        second = Wish(2, where + 1000, person % 2)
        own = where == _home(person)
        here = (Wish(1, _home(person), person % 2), *([second] if own else []))
        away = () if own else (Away(where, second),)
        return Seeker(person_key(person), kind, here, away, given_vaccine=person % 2, given_day=person % 2)

    def _begin(self, *people: int, where: int, hold_ms: int = 0, instead: CourseId | None = None) -> None:
        seekers = tuple(self._seeker(person, where) for person in people)
        request = Request(self._op(), _home(people[0]), seekers, hold_ms, instead)
        outcome = self.world.run(book(request, self.world.placement))
        if isinstance(outcome, Booked):
            self.courses |= dict(zip(people, [course.id for course in outcome.courses], strict=True))

    def _book(self, person: int, where: int) -> None:
        self._begin(person, where=where)

    def _hold(self, person: int, where: int) -> None:
        self._begin(person, where=where, hold_ms=600_000)

    def _household(self, person: int, where: int) -> None:
        other = (person + 2) % 6 + 1
        self._begin(person, other, where=where, hold_ms=600_000 * (where % 2))

    def _lapse(self, person: int, where: int) -> None:
        self._begin(person, where=where, hold_ms=1)
        time.sleep(0.003)
        for partition in range(PARTITIONS):
            self.world.step(partition, codec.expire(10))

    def _offer(self, person: int, where: int) -> None:
        """Seats are set aside for an offer, which is taken up."""
        home = _home(person)
        wishes = (Wish(1, home, person % 2),)
        offer = Request(
            self._op(), home, (Seeker(person_key(OFFERS + home), Kind.OFFER, wishes),), hold_ms=600_000
        )
        outcome = self.world.run(book(offer, self.world.placement))
        if isinstance(outcome, Booked):
            self._begin(person, where=where, instead=outcome.course.id)
            self.world.run(cancel(outcome.course.id, home, self._op(), self.world.placement))

    def _settle(self, person: int, where: int) -> None:
        self.world.settle_all()

    def _confirm(self, course: Course, where: int) -> None:
        self.world.run(confirm([course.id], course.location, self._op(), self.world.placement))

    def _extend(self, course: Course, where: int) -> None:
        by = Extension(900_000 + self.ops, 5)
        self.world.run(extend([course.id], course.location, self._op(), by, self.world.placement))

    def _move(self, course: Course, where: int) -> None:
        wish = Away(where, Wish(2, where + 1000, self.ops % 2))
        self.world.run(move(Change(course, self._op(), frozenset({2}), (wish,)), self.world.placement))

    def _drop(self, course: Course, where: int) -> None:
        self.world.run(move(Change(course, self._op(), frozenset({2})), self.world.placement))

    def _cancel(self, course: Course, where: int) -> None:
        self.world.run(cancel(course.id, course.location, self._op(), self.world.placement))

    def _stray(self, course: Course, where: int) -> None:
        """Somebody sets a seat aside and dies; the course may move on first, and the sweep decides."""
        home = self.world.keyspace.of_location(course.location)
        away = self.world.keyspace.of_location(where)
        if away == home:
            return
        wish, op = Away(where, Wish(2, where + 1000, 0)), self._op()
        found = self.world.run(aside(course.id, course.revision + 1, op, home, [wish], self.world.placement))
        if self.ops % 2:
            self._move(course, course.location)
        for part in found if isinstance(found, tuple) else ():
            record = codec.Part(b"s", home, op.id, part.session, part.slot, part.seat)
            identity = codec.PartId(course.id, part.dose, part.revision)
            self.world.run(settle_part(identity, record, part.where))


def _home(person: int) -> int:
    return person % len(LOCATIONS) + 1


class Tables:
    """Postgres with the country, and no course. Batches are committed as the persister does."""

    def __init__(self, runner: asyncio.Runner, connection: Any) -> None:
        self._runner = runner
        self._connection = connection

    def write(self, batches: list[dict[int, list[Entry]]]) -> dict[str, list[Any]]:
        """The rows that come of these batches, one after the other, from nothing."""
        return self._runner.run(self._write(batches))

    async def _write(self, batches: list[dict[int, list[Entry]]]) -> dict[str, list[Any]]:
        await self._connection.execute(f"truncate {', '.join(QUERIES)}")
        await self._connection.execute("update partition set watermark = -1")
        positions = {partition: Position(EPOCH, -1) for partition in range(PARTITIONS)}
        for batch in batches:
            positions |= (await commit.commit(self._connection, batch, positions)).positions
        return {table: await self._rows(of_table) for table, of_table in QUERIES.items()}

    async def _rows(self, of_table: str) -> list[Any]:
        return sorted((tuple(row) for row in await self._connection.fetch(of_table)), key=repr)


async def _country(url: str) -> Any:
    connection = await connect_alone(url)
    await migrate(connection)
    await commit.prepare(connection)
    for partition in range(PARTITIONS):
        await connection.execute(query("partition.found"), partition)
    for person in PEOPLE:
        await connection.execute(
            "insert into person (person_key, sealed) values ($1, '')", person_key(person).hex()
        )
    for location in LOCATIONS:
        await connection.execute(
            "insert into location values ($1, $1::integer::text, '', '', '', '', '', '', 0, 0, '')",
            location.id,
        )
        for session in location.sessions:
            await connection.execute(
                OPEN,
                *(session, location.id, _day(session), location.slots, location.lines),
                bytes(all_free(location.slots, location.lines)),
            )
    return connection


def _day(session: int) -> datetime:
    return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(days=session)


@pytest.fixture(scope="module")
def tables(postgres_server: PostgresServer) -> Iterator[Tables]:
    with asyncio.Runner() as runner:
        url = runner.run(postgres_server.create_database(f"lives_{secrets.token_hex(4)}"))
        connection = runner.run(_country(url))
        yield Tables(runner, connection)
        runner.run(connection.close())


@pytest.fixture(scope="module")
def redis() -> Iterator[Any]:
    """One that writes no file: nothing is restarted here, and histories are many."""
    with (
        DataDir.make_temporary() as data,
        RedisServer(data, settings={"appendonly": "no"}) as server,
        Redis.from_url(server.url, protocol=2) as client,
    ):
        yield client


def cut(entries: dict[int, list[Entry]], sizes: list[tuple[int, ...]]) -> list[dict[int, list[Entry]]]:
    """The entries in batches of these sizes by partition, and a last one with the rest."""
    batches, at = [], dict.fromkeys(entries, 0)
    for size in [*sizes, (10_000,) * PARTITIONS]:
        batch = {p: items[at[p] : at[p] + size[p]] for p, items in entries.items()}
        at = {p: at[p] + size[p] for p in at}
        batches.append({p: items for p, items in batch.items() if items})
    return [batch for batch in batches if batch]


ONE_BY_ONE = [tuple(int(n % PARTITIONS == p) for p in range(PARTITIONS)) for n in range(300)]
acts = st.lists(
    st.tuples(st.sampled_from(ACTS), st.sampled_from(PEOPLE), st.integers(1, 3)), min_size=5, max_size=30
)
sizes = st.lists(st.tuples(*[st.integers(0, 4)] * PARTITIONS), max_size=20)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(acts=acts, sizes=sizes)
def test_batches_do_not_matter(
    redis: Any, tables: Tables, acts: list[tuple[str, int, int]], sizes: list[tuple[int, ...]]
) -> None:
    lives = Lives(redis)
    for act in acts:
        lives.do(*act)
    lives.world.settle_all()
    entries = lives.entries()
    for items in entries.values():
        for entry in items:
            event(codec.event(entry.payload).type.decode())
    whole = tables.write(cut(entries, []))
    assert whole["quarantine"] == []
    assert tables.write(cut(entries, sizes)) == whole
    assert tables.write(cut(entries, ONE_BY_ONE)) == whole
