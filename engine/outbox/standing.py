"""Where the partitions stand: epoch, certified process and watermark as Postgres has them, and whom we reach.

Every process that sells follows it. The scripts refuse by themselves in a process that nobody has certified.
What they cannot see is compared here, once a second: whether the process that our connections reach is the
one that *our* Postgres means. Watermarks come by NOTIFY with the persister's commit, and are read once a
second as well, in case one was missed. While a store is away, what it told last stays.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, NoReturn

from engine import limits
from engine.errors import OutcomeUnknown
from engine.outbox.feed import Position
from engine.redis.acknowledge import Wait
from engine.redis.nodes import FAULTS, Nodes
from engine.storage import pool
from engine.storage.queries import query

CHANNEL = "dosebook_watermark"
NOWHERE = Position(0, -1)
# Expired waits that may stand in the order before it is made anew.
KEPT_MAX = 1_000
REPLACED = "the partition was rebuilt, or another Redis process has it"

Key = tuple[int, int]


class Standing:
    """The partitions' standing, as this process knows it."""

    def __init__(self, database_url: str, nodes: Nodes) -> None:
        partitions = nodes.keyspace.partitions
        self._database_url = database_url
        self._nodes = nodes
        self._connection: Any = None
        self._watermarks = [NOWHERE] * partitions
        self._certified: list[str | None] = [None] * partitions
        self._reached: dict[int, str] = {}
        self._waiters = [_Waiters() for _ in range(partitions)]

    def epoch(self, partition: int) -> int:
        """The epoch; 0 before it is known."""
        return self._watermarks[partition].epoch

    def of(self, partition: int) -> int:
        """The epoch to sell under; 0, which no partition ever has, where this process may not sell."""
        return 0 if self.doubt(partition) else self._watermarks[partition].epoch

    def doubt(self, partition: int) -> str:
        """Why this process may not sell there; empty if it may, or Redis did not say yet who it is."""
        certified, reached = self._certified[partition], self._reached.get(partition)
        if reached is None or certified == reached:
            return ""
        return f"UNCERTIFIED we reach Redis process {reached}, Postgres has {certified or 'none'}"

    def behind(self, partition: int, end: Position) -> int:
        """Events that Postgres lacks, if the partition's outbox ends there."""
        watermark = self._watermarks[partition]
        return max(0, end.sequence - watermark.sequence) if end.epoch == watermark.epoch else 0

    def committed(self, partition: int) -> Wait:
        """What the answer of a call waits for that is sent to the partition now.

        With the id of the partition's last event: None if Postgres has it; else a future that ends when it
        has, or with ``OutcomeUnknown`` after ``COMMIT_S_MAX``, and when another process is certified
        meanwhile: one that was set back gives the ids of what it lost to other events.
        """
        return partial(self._wait, partition, self._certified[partition])

    def _wait(self, partition: int, process: str | None, last_event: bytes) -> "asyncio.Future[None] | None":
        if not last_event:
            return None
        epoch, _, sequence = last_event.partition(b"-")
        wanted, watermark = Position(int(epoch), int(sequence)), self._watermarks[partition]
        if process != self._certified[partition] or wanted.epoch < watermark.epoch:
            return _unknown()
        if wanted.epoch == watermark.epoch and wanted.sequence <= watermark.sequence:
            return None
        return self._waiters[partition].wait(wanted)

    async def refresh(self) -> None:
        """Ask both stores once. Raises what Postgres raises; a Redis that is away changes nothing."""
        await asyncio.gather(self._ask_postgres(), self._ask_redis())

    async def follow(self) -> None:
        """Ask again and again, until cancelled."""
        try:
            # Side by side: a store that hangs does not keep us from what the other one says.
            await asyncio.gather(_again(self._ask_postgres_if_there), _again(self._ask_redis))
        finally:
            await self.close()

    async def close(self) -> None:
        """End the connection to Postgres."""
        if self._connection is not None:
            self._connection.terminate()
            self._connection = None

    async def _ask_postgres_if_there(self) -> None:
        try:
            await self._ask_postgres()
        except pool.FAULTS:
            # It may be one that hangs for ever: the next time begins with a new connection.
            await self.close()

    async def _ask_postgres(self) -> None:
        if self._connection is None or self._connection.is_closed():
            self._connection = await pool.connect_alone(self._database_url)
            await self._connection.add_listener(CHANNEL, self._heard)
        for row in await self._connection.fetch(
            query("partition.all"), timeout=limits.POSTGRES_CONNECT_S_MAX
        ):
            if row["partition"] < len(self._watermarks):
                self._stand(row["partition"], Position(row["epoch"], row["watermark"]), row["run_id"])

    async def _ask_redis(self) -> None:
        with suppress(*FAULTS):
            await self._nodes.refresh()
        self._reached |= await self._nodes.run_ids()

    def _heard(self, connection: Any, pid: int, channel: str, payload: str) -> None:
        for words in payload.split():
            partition, epoch, sequence, process = words.split(":")
            if int(partition) < len(self._watermarks):
                self._stand(int(partition), Position(int(epoch), int(sequence)), process)

    def _stand(self, partition: int, watermark: Position, process: str | None) -> None:
        """Note what Postgres says. A reading may be overtaken by a notice: a later watermark stays."""
        before, waiters = self._watermarks[partition], self._waiters[partition]
        if process != self._certified[partition] or watermark.epoch > before.epoch:
            self._certified[partition] = process
            waiters.give_up()
        if (watermark.epoch, watermark.sequence) > (before.epoch, before.sequence):
            self._watermarks[partition] = watermark
            waiters.pass_to(watermark)


async def _again(ask: Callable[[], Awaitable[None]]) -> NoReturn:
    while True:
        await asyncio.sleep(limits.STANDING_S)
        await ask()


class _Waiters:
    """Those who wait for one partition's watermark, by the event that they wait for."""

    def __init__(self) -> None:
        self._futures: dict[Key, asyncio.Future[None]] = {}
        self._order: list[Key] = []

    def wait(self, wanted: Position) -> "asyncio.Future[None]":
        key = (wanted.epoch, wanted.sequence)
        future = self._futures.get(key)
        if future is None:
            loop = asyncio.get_running_loop()
            future = self._futures[key] = loop.create_future()
            heapq.heappush(self._order, key)
            loop.call_later(limits.COMMIT_S_MAX, self._expire, key, future)
        return future

    def pass_to(self, watermark: Position) -> None:
        """End the waits up to a watermark."""
        while self._order and self._order[0] <= (watermark.epoch, watermark.sequence):
            future = self._futures.pop(heapq.heappop(self._order), None)
            if future is not None:
                future.set_result(None)

    def give_up(self) -> None:
        """Another process has the partition, or another epoch: what was not committed may be lost."""
        futures, self._futures, self._order = self._futures, {}, []
        for future in futures.values():
            future.set_exception(OutcomeUnknown(REPLACED))

    def _expire(self, key: Key, future: "asyncio.Future[None]") -> None:
        if future.done():
            return
        del self._futures[key]
        future.set_exception(OutcomeUnknown("Postgres does not have it yet"))
        if len(self._order) > 2 * len(self._futures) + KEPT_MAX:
            self._order = sorted(self._futures)


def _unknown() -> "asyncio.Future[None]":
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_exception(OutcomeUnknown(REPLACED))
    return future
