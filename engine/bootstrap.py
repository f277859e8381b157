"""The composition root: every part of the engine is made here, once, and handed to those that need it.

``open_engine`` reads what a process keeps in memory (sessions, masks, postcodes, rules), starts what follows
Redis and Postgres, and on leaving stops all of it in order. It fails where a store cannot be reached or has
not been prepared; after that, each store may come and go.
"""

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import structlog
from redis.exceptions import RedisError

from engine import limits
from engine.availability.alternatives import Alternative, Alternatives, FullStock
from engine.availability.board import Board
from engine.availability.follow import Follower
from engine.availability.search import Place, Query, Search
from engine.booking.desk import Desk
from engine.booking.outcomes import Reason, Refused
from engine.capacity.catalogue import Catalogue
from engine.capacity.postcodes import Postcodes
from engine.domain.course import Wish
from engine.errors import DeploymentMismatch
from engine.outbox.certify import run_id_of
from engine.persons.register import Registrar
from engine.privacy.references import References
from engine.privacy.seal import PlainSealer
from engine.privacy.secrets import open_secrets
from engine.redis.batch import STEP, Batcher
from engine.redis.connection import connect
from engine.redis.keyspace import Keyspace
from engine.rules.intervals import Intervals, load_intervals
from engine.settings import Settings
from engine.storage.pool import connect_pool
from engine.storage.queries import query

_log = structlog.get_logger("engine")


class Certificates:
    """For each partition: the epoch, and the Redis process that is certified, as Postgres has them.

    The scripts refuse by themselves in a process that nobody has certified. What they cannot see is compared
    here, once a second: whether the process that our connections reach is the one that *our* Postgres means.
    """

    def __init__(self, pool: Any, client: Any, partitions: int) -> None:
        self._pool = pool
        self._client = client
        self._epochs = [0] * partitions
        self._certified: list[str | None] = [None] * partitions
        self._reached = ""

    def epoch(self, partition: int) -> int:
        """The epoch; 0 before it is known."""
        return self._epochs[partition]

    def of(self, partition: int) -> int:
        """The epoch to sell under; 0, which no partition ever has, where this process may not sell."""
        return 0 if self.doubt(partition) else self._epochs[partition]

    def doubt(self, partition: int) -> str:
        """Why this process may not sell there; empty if it may, or Redis did not say yet who it is."""
        certified = self._certified[partition]
        if not self._reached or certified == self._reached:
            return ""
        return f"UNCERTIFIED we reach Redis process {self._reached}, Postgres has {certified or 'none'}"

    async def refresh(self) -> None:
        """Ask both stores once. Raises what Postgres raises; a Redis that is away changes nothing."""
        for row in await self._pool.fetch(query("partition.all")):
            if row["partition"] < len(self._epochs):
                self._epochs[row["partition"]] = row["epoch"]
                self._certified[row["partition"]] = row["run_id"]
        with suppress(RedisError, OSError, TimeoutError):
            self._reached = await run_id_of(self._client)

    async def follow(self) -> None:
        """Ask again and again; while Postgres is away all stays as it is."""
        while True:
            await asyncio.sleep(limits.EPOCH_REFRESH_S)
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await self.refresh()


class Engine:
    """One process's engine. The parts are public: a caller uses the one whose noun it needs."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        intervals: Intervals,
        postcodes: Postcodes,
        references: References,
        registrar: Registrar,
        batcher: Batcher,
        desk: Desk,
        board: Board,
        follower: Follower,
        search: Search,
        alternatives: Alternatives,
        probe: "Probe",
    ) -> None:
        self.catalogue = catalogue
        self.intervals = intervals
        self.postcodes = postcodes
        self.references = references
        self.registrar = registrar
        self.batcher = batcher
        self.desk = desk
        self.board = board
        self.follower = follower
        self.probe = probe
        self._search = search
        self._alternatives = alternatives
        self._chance = random.Random().random  # noqa: S311  (a sample of free slots, no secret)

    def availability(self, asked: Query) -> list[Place]:
        """The nearest places where both doses are free, from memory."""
        return self._search.places(asked, now_utc(), self._chance)

    def alternatives(self, wishes: tuple[Wish, Wish], refused: Refused) -> list[Alternative]:
        """What else is free; nothing where more seats would not help."""
        if refused.reason not in (Reason.FULL, Reason.CLOSED):
            return []
        full = FullStock(refused.dose, refused.width, refused.stock) if refused.stock else None
        return self._alternatives.to(wishes, full, now_utc(), self._chance)


class Probe:
    """Asks every partition whether it takes bookings from this process."""

    def __init__(self, client: Any, keyspace: Keyspace, certificates: Certificates) -> None:
        self._client = client
        self._keyspace = keyspace
        self._certificates = certificates

    async def closed(self) -> dict[int, str]:
        """The partitions that do not, and why."""
        partitions = range(self._keyspace.partitions)
        pipeline = self._client.pipeline(transaction=False)
        for partition in partitions:
            pipeline.fcall(STEP, 1, self._keyspace.outbox(partition), self._certificates.of(partition))
        try:
            async with asyncio.timeout(limits.PROBE_S_MAX):
                replies = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            return dict.fromkeys(partitions, f"Redis does not answer: {type(error).__name__}")
        pairs = zip(partitions, replies, strict=True)
        doubt = self._certificates.doubt
        return {
            partition: doubt(partition) or str(reply)
            for partition, reply in pairs
            if isinstance(reply, Exception)
        }


def now_utc() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """The engine of one process, from loading to the last answer."""
    keyspace = Keyspace(settings.partitions)
    pool = await connect_pool(settings.database_url)
    client = connect(settings.redis_url)
    blocking = connect(settings.redis_url, connections=1)
    try:
        await _check_deployment(pool, settings)
        certificates = Certificates(pool, client, settings.partitions)
        await certificates.refresh()
        batcher = Batcher(client, keyspace, certificates.of)
        catalogue = await Catalogue.load(pool)
        board = Board(catalogue.sessions.values())
        follower = Follower(blocking, keyspace, certificates.epoch, board)
        await follower.load()
        probe = Probe(client, keyspace, certificates)
        engine = _compose(settings, pool, catalogue, batcher, board, follower, probe)
        _freeze(catalogue)
        async with _background(follower.run(), certificates.follow()):
            yield engine
            await engine.desk.close()
            await batcher.close()
    finally:
        await blocking.aclose()
        await client.aclose()
        await pool.close()


def _compose(
    settings: Settings,
    pool: Any,
    catalogue: Catalogue,
    batcher: Batcher,
    board: Board,
    follower: Follower,
    probe: Probe,
) -> Engine:
    secrets = open_secrets(settings.secrets_dir)
    intervals = load_intervals(
        settings.france_dir / "vaccins.csv", settings.france_dir / "vaccins_intervalle_historique.csv"
    )
    locations, sessions = catalogue.locations, catalogue.sessions
    zones: Mapping[int, ZoneInfo] = {number: ZoneInfo(place.zone) for number, place in locations.items()}
    search = Search(board, locations, sessions, intervals)
    return Engine(
        catalogue=catalogue,
        intervals=intervals,
        postcodes=Postcodes.load(settings.france_dir / "codes_postaux.csv"),
        references=References(secrets.reference_key),
        registrar=Registrar(pool, secrets.pepper, PlainSealer()),
        batcher=batcher,
        desk=Desk(batcher, Keyspace(settings.partitions), sessions, zones, intervals, now_utc),
        board=board,
        follower=follower,
        search=search,
        alternatives=Alternatives(board, search, locations, sessions),
        probe=probe,
    )


async def _check_deployment(pool: Any, settings: Settings) -> None:
    """The partition count places every person and location: another one would look in the wrong places."""
    partitions = await pool.fetchval(query("deployment.partitions"))
    if partitions is not None and partitions != settings.partitions:
        raise DeploymentMismatch(
            f"the database was founded with {partitions} partitions, DOSEBOOK_PARTITIONS says"
            f" {settings.partitions}: set it to {partitions}"
        )


@asynccontextmanager
async def _background(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _freeze(catalogue: Catalogue) -> None:
    """What was loaded stays: the collector need not look at 100,000 sessions for every few bookings."""
    started = time.monotonic()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*limits.COLLECTOR_THRESHOLDS)
    counts = {"locations": len(catalogue.locations), "sessions": len(catalogue.sessions)}
    _log.info("engine.loaded", seconds=round(time.monotonic() - started, 3), **counts)
