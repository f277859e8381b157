"""Carries the outboxes to Postgres, exactly once, and settles guards that live in other partitions.

It owns the partitions by advisory locks on the very connection it writes with: who has lost the connection
has lost the locks, and starts over from the watermarks that Postgres has. Postgres ends the session of an
owner that is silent for ``OWNER_SILENT_MS_MAX``, so one that was stopped, or whose machine is gone, is
replaced by another that waits, and writes nothing when it wakes up. What an owner does is in ``rounds.py``.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from typing import Any

import msgspec
from redis.exceptions import RedisError

from engine import limits
from engine.errors import EngineFault, PersisterReplaced
from engine.outbox.feed import Feed, Position
from engine.outbox.metrics import Metrics
from engine.outbox.rounds import Rounds
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import Nodes
from engine.storage.pool import FAULTS, PERSISTER, connect_alone
from engine.storage.queries import query

MACHINE_FAULTS = (*FAULTS, RedisError, EngineFault)


class Stores(msgspec.Struct, frozen=True):
    """Where the persister reads and writes; ``replicas`` must have what it commits."""

    redis_url: str
    database_url: str
    keyspace: Keyspace
    replicas: int = 0


class Persister:
    """One process' persister of all partitions. ``say`` gets a line whenever something needs to be known."""

    def __init__(self, stores: Stores, metrics: Metrics, say: Callable[[str], None]) -> None:
        self._stores = stores
        self._metrics = metrics
        self._say = say
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for the end: the round under way is finished first."""
        self._stopping.set()

    async def run(self) -> None:
        """Persist until stopped. Raises ``PersisterReplaced`` when another one wrote the same partitions."""
        wait_s = limits.RECONNECT_S_MIN
        while not self._stopping.is_set():
            try:
                await self._own()
                wait_s = limits.RECONNECT_S_MIN
            except PersisterReplaced:
                raise
            except MACHINE_FAULTS as error:
                self._say(f"starting over in {wait_s:.1f} s: {type(error).__name__}: {error}")
                await self._rest(wait_s)
                wait_s = min(2 * wait_s, limits.RECONNECT_S_MAX)

    async def _own(self) -> None:
        """One ownership of the partitions, from the locks to the end of the connection."""
        stores = self._stores
        async with AsyncExitStack() as stack:
            connection = await connect_alone(stores.database_url, PERSISTER)
            stack.push_async_callback(_close, connection)
            if not await self._lock(connection):
                return
            nodes = Nodes(stores.redis_url, stores.keyspace)
            stack.push_async_callback(nodes.aclose)
            positions = await _positions(connection, stores.keyspace)
            batcher = Batcher(nodes, lambda partition: positions[partition].epoch)
            stack.push_async_callback(batcher.close)
            rounds = Rounds(
                connection,
                nodes,
                batcher,
                Feed(nodes),
                positions,
                stores.replicas,
                self._metrics,
                self._say,
            )
            await rounds.begin()
            while not self._stopping.is_set():
                if await rounds.round():
                    await self._rest(limits.PERSIST_PAUSE_S)

    async def _lock(self, connection: Any) -> bool:
        """Take every partition's lock, waiting as long as it needs; False when stopped meanwhile."""
        for partition in range(self._stores.keyspace.partitions):
            told = False
            while not await connection.fetchval(query("partition.lock"), partition):
                if not told:
                    self._say(f"partition {partition} has another persister: waiting for it to end")
                told = True
                await self._rest(limits.PERSIST_LOCK_S)
                if self._stopping.is_set():
                    return False
        self._say(f"persisting {self._stores.keyspace.partitions} partition(s)")
        return True

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def _positions(connection: Any, keyspace: Keyspace) -> dict[int, Position]:
    rows = await connection.fetch(query("partition.all"))
    positions = {row["partition"]: Position(row["epoch"], row["watermark"]) for row in rows}
    if sorted(positions) != list(range(keyspace.partitions)):
        raise EngineFault(
            f"Postgres has {len(positions)} of {keyspace.partitions} partitions: the start founds them,"
            " this waits for it"
        )
    return positions


async def _close(connection: Any) -> None:
    """Close within a bounded time, also when the server is gone."""
    try:
        await connection.close(timeout=limits.RECONNECT_S_MAX)
    except MACHINE_FAULTS:
        connection.terminate()
