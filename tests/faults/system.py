"""The system under test: stores, proxy, persister and API as supervised children, and hands to strike them.

One machine, ``appendfsync always``, one API process. Engine and persister reach Redis through the proxy; the
harness itself, and the audit, reach it directly. A system may be rigged: its stores on small disks, its Redis
under a clock that can be set. Or it stands on a cluster, three masters and their replicas, without proxy and
rig.
"""

import asyncio
import os
import signal
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from redis.exceptions import RedisError

from engine.capacity.open import Inventory, open_sessions
from engine.cli.layout import CLUSTER_MASTERS, CLUSTER_PARTITIONS
from engine.cli.rebuild import rebuild
from engine.cli.site import Site, prepare_stores
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.errors import RebuildFailed
from engine.privacy.references import PersonRef, References
from engine.privacy.secrets import open_secrets
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import FAULTS, Nodes, open_nodes
from engine.servers.cluster import ClusterNode, ClusterServers
from engine.servers.data_dir import DataDir
from engine.servers.ports import listen
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.servers.supervisor import State, Supervisor
from engine.settings import Acknowledge, Settings
from engine.storage.pool import connect_alone, connect_pool
from tests.faults.checker import CourseRow, Outbox
from tests.faults.clocks import Clock
from tests.faults.cluster import Cluster
from tests.faults.desk import Person
from tests.faults.disks import POSTGRES_SETTINGS, disk_of, small_disks
from tests.faults.history import BEGINS, History, Op
from tests.faults.proxy import Proxy
from tests.faults.rows import part_events, read_rows
from tests.faults.trouble import StuckError
from tests.faults.writers import Place
from tests.servers.processes import family
from tests.short_holds import campaign_with_holds

# (slots, lines) of each location: some sell out again and again, some never.
SIZES = {1: (40, 10), 2: (40, 10), 3: (40, 10), 4: (40, 10), 5: (10, 2), 6: (5, 1)}
DAYS = (2, 32)
PARIS = "Europe/Paris"
RUNNING_S_MAX = 60.0
POLL_S = 0.02
REBUILDS_MAX = 5
HOLD_S = 3
# Before a child is started again nobody reads its files: that is when they are meddled with.
Meddle = Callable[[Path], None]
# A rebuild begins a new epoch and counts from nothing; the harness adds up what went before.
WATCH_EPOCHS = """
create schema faults;
create table faults.past (epoch integer, watermark bigint);
create function faults.note() returns trigger language plpgsql as $$
begin insert into faults.past values (old.epoch, old.watermark); return null; end $$;
create trigger faults_note after update on partition for each row
when (new.epoch <> old.epoch) execute function faults.note();
"""
HELD = "select count(*) as n from course where state = 'h'"
PAST_EVENTS = "select coalesce(sum(watermark + 1), 0)::bigint as n from faults.past"
FORGET = """
with gone as (
  delete from course where (person_key, generation) in
    (select person_key, generation from course where state = 'b' limit 20)
  returning person_key, generation
)
delete from appointment a using gone
where a.person_key = gone.person_key and a.generation = gone.generation
returning a.seat
"""


class Ground(msgspec.Struct, frozen=True):
    """What a system stands on. ``policy`` is when a write is acknowledged; several masters are a cluster."""

    partitions: int = 1
    policy: Acknowledge = Acknowledge.FSYNC
    has_small_disks: bool = False
    has_own_clock: bool = False
    masters: int = 1
    replicas: int = 0

    @property
    def is_cluster(self) -> bool:
        """Whether there is more than one Redis."""
        return self.masters > 1


def cluster_ground(partitions: int = CLUSTER_PARTITIONS) -> Ground:
    """A replica of each master, which has what is acknowledged."""
    return Ground(partitions, Acknowledge.REPLICA, masters=CLUSTER_MASTERS, replicas=1)


class StruckRedis(RedisServer):
    """A Redis whose files can be meddled with while it is down."""

    meddle: Meddle | None = None

    def prepare(self) -> None:
        """As always, but for the files."""
        super().prepare()
        meddle, self.meddle = self.meddle, None
        if meddle is not None:
            meddle(self.directory)


class System:
    """A running system. Made by ``open_system``; ``clock`` is there where the ground has one of its own.

    It has ``redis`` and ``proxy``, or the ``cluster``, as its ground has. ``struck`` are the partitions that
    a fault takes away, where it does not take all.
    """

    clock: Clock | None = None
    redis: StruckRedis
    proxy: Proxy
    cluster: Cluster

    def __init__(
        self,
        supervisor: Supervisor,
        data: DataDir,
        postgres: PostgresServer,
        settings: Settings,
        url: str,
        ground: Ground,
    ) -> None:
        self.ground = ground
        self.settings = settings
        self.url = url
        self.history = History()
        self.struck: frozenset[int] = frozenset()
        self._data = data
        self.references = References(open_secrets(settings.secrets_dir).reference_key)
        self.people: list[Person] = []
        self.places: list[Place] = []
        self.sizes: dict[int, tuple[int, int]] = {}
        self._supervisor = supervisor
        self._postgres = postgres
        self._keyspace = Keyspace(settings.partitions)

    async def kill(self, name: str) -> None:
        """``kill -9`` of a child and everything below it."""
        self._signal(await asyncio.to_thread(self._family, name), signal.SIGKILL)

    async def stop(self, name: str, seconds: float) -> None:
        """SIGSTOP of a child and everything below it, for a while."""
        pids = await asyncio.to_thread(self._family, name)
        self._signal(pids, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._signal(pids, signal.SIGCONT)

    async def kill_redis(self, meddle: Meddle) -> None:
        """``kill -9`` of Redis, which finds its files changed when it starts again."""
        is_down = asyncio.Event()
        loop = asyncio.get_running_loop()

        def meddle_once(folder: Path) -> None:
            meddle(folder)
            loop.call_soon_threadsafe(is_down.set)

        self.redis.meddle = meddle_once
        await self.kill("redis")
        async with asyncio.timeout(RUNNING_S_MAX):
            await is_down.wait()
        await self.until_running()

    async def flush(self) -> None:
        """FLUSHALL."""
        async with self._nodes() as nodes:
            for node in nodes.all:
                await node.client.flushall()

    async def rebuild(self) -> dict[int, int]:
        """What an operator does with a lost Redis, again while it fails; the epochs of what was lost."""
        lost: dict[int, int] = {}
        for attempt in range(1, REBUILDS_MAX + 1):
            try:
                done = await rebuild(
                    self.settings, list(range(self.settings.partitions)), False, lambda done, total: None
                )
                return lost | done.epochs
            except (RebuildFailed, RedisError, OSError, asyncpg.PostgresError) as error:
                if attempt == REBUILDS_MAX:
                    raise StuckError(f"the rebuild did not end: {error}") from error
                await asyncio.sleep(1)
        return lost

    async def pids(self, name: str) -> list[int]:
        """A child and everything below it."""
        return await asyncio.to_thread(self._family, name)

    def disk(self, name: str) -> Path:
        """Where the small disk of a store is."""
        return disk_of(self._data.path, name)

    async def take_away_postgres(self) -> None:
        """``kill -9``, and nobody starts it again."""
        await self.kill("postgres")
        await self._supervisor.stop("postgres")

    async def bring_back_postgres(self) -> None:
        """Start it on its old data."""
        await self._supervisor.start(self._postgres)

    async def redis_memory_bytes(self) -> int:
        """As Redis counts it, all masters together."""
        async with self._nodes() as nodes:
            told = [await node.client.info("memory") for node in nodes.all]
        return sum(int(memory["used_memory"]) for memory in told)

    async def partitions_of(self, node: ClusterNode) -> frozenset[int]:
        """Those that are on this master now."""
        async with self._nodes() as nodes:
            on = nodes.grouped(range(self._keyspace.partitions))
        return frozenset(p for at, found in on.items() if at.address.endswith(f":{node.port}") for p in found)

    def shows(self, op: Op) -> bool:
        """Whether an acknowledgement says that what was struck takes writes: the guard's partition does."""
        if not self.struck:
            return True
        return op.act in BEGINS and self._keyspace.of_person(bytes.fromhex(op.person)) in self.struck

    async def sabotage(self) -> None:
        """What no fault may do: lose courses that Postgres had. Raises ``TimeoutError`` if it has none."""
        async with asyncio.timeout(RUNNING_S_MAX):
            while not await self._fetch(FORGET):
                await asyncio.sleep(POLL_S)

    async def until_running(self) -> None:
        """Wait until every child runs, and a cluster is whole. Raises ``TimeoutError``."""
        async with asyncio.timeout(RUNNING_S_MAX):
            while any(child.state is not State.RUNNING for child in self._supervisor.status()):
                await asyncio.sleep(POLL_S)
        if self.ground.is_cluster:
            await self.cluster.until_whole()

    async def until_persisted(self, timeout_s: float = RUNNING_S_MAX) -> float:
        """Wait until Postgres has what the outboxes hold now; how long it took. Raises ``TimeoutError``."""
        began = time.monotonic()
        async with asyncio.timeout(timeout_s):
            ends = await self._ends_when_there()
            while not await self._has(ends):
                await asyncio.sleep(POLL_S)
        return time.monotonic() - began

    async def last_events(self) -> int:
        """Numbers of the partitions' last events, added up: the difference of two is what came between."""
        return sum((await self._ends()).values())

    async def until_holds_are_over(self, timeout_s: float) -> None:
        """Wait until nothing is held any more. Raises ``TimeoutError``."""
        async with asyncio.timeout(timeout_s):
            while (await self._fetch(HELD))[0]["n"]:
                await asyncio.sleep(1)

    async def rows(self) -> list[CourseRow]:
        """Every course in Postgres, its seats, and what was done to it."""
        return await read_rows(self._fetch)

    async def part_events(self) -> int:
        """Events in Postgres of seats that were set aside, or given back, away from home."""
        return await part_events(self._fetch)

    async def quarantined(self) -> int:
        """Events that broke a proof."""
        return int((await self._fetch("select count(*) as n from quarantine"))[0]["n"])

    async def past_events(self) -> int:
        """Events in Postgres of epochs that a rebuild has ended."""
        return int((await self._fetch(PAST_EVENTS))[0]["n"])

    async def outboxes(self) -> list[Outbox]:
        """The ends of all partitions, once nothing moves."""
        marks = await self._watermarks()
        found = []
        async with self._nodes() as nodes:
            for partition in range(self._keyspace.partitions):
                entries = await nodes.of(partition).client.xrange(self._keyspace.outbox(partition))
                sequences = [int(entry.partition(b"-")[2]) for entry, _ in entries]
                last = await self._last(nodes, partition)
                found.append(Outbox(partition, sequences, last, marks[partition]))
        return found

    def _nodes(self) -> AbstractAsyncContextManager[Nodes]:
        """Past the proxy."""
        return open_nodes(self.settings.redis_url, self._keyspace, connections=1)

    def _family(self, name: str) -> list[int]:
        """Process ids, the parent first."""
        parent = next(child.pid for child in self._supervisor.status() if child.name == name)
        if parent is None:
            raise ProcessLookupError(f"{name} does not run")
        return sorted(family(parent), key=lambda pid: pid != parent)

    @staticmethod
    def _signal(pids: list[int], number: signal.Signals) -> None:
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    async def _has(self, ends: dict[int, int]) -> bool:
        try:
            marks = await self._watermarks()
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, TimeoutError):
            return False
        return all(marks[partition] >= end for partition, end in ends.items())

    async def _ends_when_there(self) -> dict[int, int]:
        while True:
            try:
                return await self._ends()
            except FAULTS:
                await asyncio.sleep(POLL_S)

    async def _ends(self) -> dict[int, int]:
        async with self._nodes() as nodes:
            return {p: await self._last(nodes, p) for p in range(self._keyspace.partitions)}

    async def _last(self, nodes: Nodes, partition: int) -> int:
        entries = await nodes.of(partition).client.xrevrange(self._keyspace.outbox(partition), count=1)
        return int(entries[0][0].partition(b"-")[2]) if entries else -1

    async def _watermarks(self) -> dict[int, int]:
        rows = await self._fetch("select partition, watermark from partition")
        return {row["partition"]: row["watermark"] for row in rows}

    async def _fetch(self, sql: str) -> list[Any]:
        connection = await connect_alone(self.settings.database_url)
        try:
            return list(await connection.fetch(sql))
        finally:
            await connection.close()


@asynccontextmanager
async def open_system(people: int, ground: Ground) -> AsyncIterator[System]:
    """Start everything on empty stores, register people, open sessions; stop everything at the end."""
    with DataDir.make_temporary() as data, ExitStack() as stack:
        if ground.has_small_disks:
            stack.enter_context(small_disks(data.path))
        async with Supervisor(data) as supervisor, AsyncExitStack() as ways:
            listener = listen(0)
            ways.callback(listener.close)
            system, seen = await _stand(ground, data, supervisor, listener.url, ways)
            await _fill(system, people)
            try:
                await Site(data, seen, listener).start(supervisor, 1)
                yield system
            finally:
                # The children end before the way to Redis does.
                for name in ("api", "persister"):
                    if any(child.name == name for child in supervisor.status()):
                        await supervisor.stop(name)


async def _stand(
    ground: Ground, data: DataDir, supervisor: Supervisor, url: str, ways: AsyncExitStack
) -> tuple[System, Settings]:
    """Start the stores; persister and API get settings of their own: their way to Redis may be another."""
    clock = Clock(data.path / "clock") if ground.has_own_clock else None
    postgres = PostgresServer(data, settings=POSTGRES_SETTINGS if ground.has_small_disks else None)
    redis: StruckRedis | Cluster
    if ground.is_cluster:
        redis = Cluster(supervisor, _cluster_servers(data, ground))
        await asyncio.gather(redis.start(), supervisor.start(postgres))
    else:
        redis = StruckRedis(data, env=clock.environment if clock else None)
        await asyncio.gather(supervisor.start(redis), supervisor.start(postgres))
    settings = Settings(
        redis.url,
        postgres.url,
        data.path / "secrets",
        ground.partitions,
        ground.policy,
        ground.replicas,
        campaign=campaign_with_holds(data.path, HOLD_S),
    )
    system = System(supervisor, data, postgres, settings, url, ground)
    if isinstance(redis, Cluster):
        system.cluster = redis
        return system, settings
    system.redis, system.clock = redis, clock
    system.proxy = await ways.enter_async_context(Proxy(data.run_dir / "proxy.sock", redis.socket))
    return system, msgspec.structs.replace(settings, redis_url=f"unix://{system.proxy.path}")


def _cluster_servers(data: DataDir, ground: Ground) -> ClusterServers:
    """The partitions are shared out evenly."""
    spread = [Keyspace(ground.partitions).prefix(partition) for partition in range(ground.partitions)]
    return ClusterServers(data, masters=ground.masters, replicas=ground.replicas, spread=spread)


async def _fill(system: System, people: int) -> None:
    """Found the partitions, register the people, open the sessions."""
    epochs, keyspace = await prepare_stores(system.settings), Keyspace(system.settings.partitions)
    pool = await connect_pool(system.settings.database_url)
    try:
        async with open_nodes(system.settings.redis_url, keyspace) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            await open_sessions(pool, Inventory(nodes, batcher), _locations(), _plans())
            await batcher.close()
        keys = [uuid.uuid5(uuid.NAMESPACE_OID, str(n)) for n in range(people)]
        async with pool.acquire() as connection:
            await connection.copy_records_to_table(
                "person", records=[(key, b"") for key in keys], columns=["person_key", "sealed"]
            )
            await connection.execute(WATCH_EPOCHS)
        rows = await pool.fetch("select id, location, slots, lines from session order by location, day")
    finally:
        await pool.close()
    sign = system.references.of_person
    system.people = [Person(key.hex, sign(PersonRef(key.bytes))) for key in keys]
    system.sizes = {row["id"]: (row["slots"], row["lines"]) for row in rows}
    for first, second in zip(rows[::2], rows[1::2], strict=True):
        system.places.append(Place(first["location"], (first["id"], second["id"]), first["slots"]))


def _locations() -> list[Location]:
    return [
        Location(
            n,
            str(n),
            f"Place {n}",
            "1 rue A",
            "75011",
            "Paris",
            "75",
            "11",
            48.8,
            2.3 + n / 100,
            "Europe/Paris",
        )
        for n in SIZES
    ]


def _plans() -> Iterator[SessionPlan]:
    for location, (slots, lines) in SIZES.items():
        for day in DAYS:
            on = datetime.now(UTC) + timedelta(days=day)
            starts_at = on.replace(hour=7, minute=0, second=0, microsecond=0)
            mask = bytes(seats.all_free(slots, lines))
            yield SessionPlan(location, "pfizer", on.date(), starts_at, 5, slots, lines, mask)
