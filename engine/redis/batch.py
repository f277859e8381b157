"""Carries operations to the partitions in batches: one pipeline per flush, a few under way.

There is no fixed window: what arrives while the pipelines are away goes with the next one. A caller awaits
the future of its own operation; if it stops waiting, the operation goes on and hurts no other in the batch.

When Redis' memory is full it refuses a whole call before its first write. Then those operations of the call
that give something back are sent once more, by the function that may run at ``maxmemory``; the others fail
with ``StoreFull``.

Failures: no reply in time, or a connection lost, fails every operation of that pipeline with
``OutcomeUnknown``; the connection is dropped, so that no reply can reach another caller. A closed partition
fails its own operations with ``PartitionClosed``.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from engine import limits
from engine.errors import (
    EngineFault,
    OutcomeUnknown,
    PartitionClosed,
    QueueFull,
    StepFailed,
    StoreFull,
)
from engine.redis.keyspace import Keyspace

STEP = "dosebook_step"
DRAIN = "dosebook_drain"
# Codes of the operations that `dosebook_drain` takes (engine/inventory/scripts/step.lua).
DRAINS = frozenset(b"sufrxglm")


class _Waiting(NamedTuple):
    partition: int
    record: bytes
    future: "asyncio.Future[bytes]"


class _Call(NamedTuple):
    partition: int
    items: list[_Waiting]


class Clocks:
    """The partitions' clocks as last heard, carried on by this host's monotonic clock."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}

    def hear(self, partition: int, now_ms: int) -> None:
        """Note a clock that a call returned."""
        self._heard[partition] = (now_ms, time.monotonic())

    def heard(self, partition: int) -> int | None:
        """The partition's clock as its last answer told it, in ms; it has reached this at least."""
        heard = self._heard.get(partition)
        return None if heard is None else heard[0]

    def not_after(self, partition: int) -> int:
        """Deadline in ms for an operation that is sent now. Before any answer: this host's own clock."""
        heard = self._heard.get(partition)
        if heard is None:
            return int(time.time() * 1000) + limits.OPERATION_MS_MAX
        now_ms, at = heard
        return now_ms + int((time.monotonic() - at) * 1000) + limits.OPERATION_MS_MAX


class Batcher:
    """Queue, flush and delivery for one process. ``epochs`` gives a partition's certified epoch."""

    def __init__(self, client: Any, keyspace: Keyspace, epochs: Callable[[int], int]) -> None:
        self.clocks = Clocks()
        self.calls = 0
        self.operations = 0
        self._client = client
        self._outboxes = [keyspace.outbox(p) for p in range(keyspace.partitions)]
        self._epochs = epochs
        self._queue: list[_Waiting] = []
        self._under_way = 0
        self._pipelines: set[asyncio.Task[None]] = set()
        self._scheduled = False

    @property
    def pending(self) -> int:
        """Operations queued or under way."""
        return len(self._queue) + self._under_way

    def put(self, partition: int, record: bytes) -> "asyncio.Future[bytes]":
        """Queue one operation. Raises ``QueueFull`` when too many wait."""
        if self.pending >= limits.QUEUE_OPS_MAX:
            raise QueueFull(f"{limits.QUEUE_OPS_MAX} operations wait for Redis; try again in a second")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[bytes] = loop.create_future()
        self._queue.append(_Waiting(partition, record, future))
        self._schedule(loop)
        return future

    async def close(self) -> None:
        """Let what is under way come home; fail what was never sent."""
        queue, self._queue = self._queue, []
        for item in queue:
            _fail(item, QueueFull("the process is stopping; nothing was sent"))
        await asyncio.gather(*self._pipelines, return_exceptions=True)

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._scheduled and len(self._pipelines) < limits.PIPELINES_MAX:
            self._scheduled = True
            loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        self._under_way += len(queue)
        task = asyncio.get_running_loop().create_task(self._send(_group(queue)))
        self._pipelines.add(task)
        task.add_done_callback(self._home)

    def _home(self, task: "asyncio.Task[None]") -> None:
        self._pipelines.discard(task)
        if self._queue:
            self._schedule(asyncio.get_running_loop())

    async def _send(self, calls: list[_Call]) -> None:
        again = []
        for call, reply in zip(calls, await self._replies(STEP, calls), strict=True):
            if isinstance(reply, OutOfMemoryError):
                again.append(self._drains_of(call))
            else:
                self._deliver(call, reply)
        drains = [call for call in again if call.items]
        if drains:
            for call, reply in zip(drains, await self._replies(DRAIN, drains), strict=True):
                self._deliver(call, reply)

    async def _replies(self, function: str, calls: list[_Call]) -> Sequence[Any]:
        """The reply to each call, or what befell it."""
        pipeline = self._client.pipeline(transaction=False)
        for partition, items in calls:
            records = [item.record for item in items]
            pipeline.fcall(function, 1, self._outboxes[partition], self._epochs(partition), *records)
        try:
            replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        except (RedisError, OSError, TimeoutError) as error:
            return [error] * len(calls)
        except asyncio.CancelledError:
            return [OutcomeUnknown("the process is stopping")] * len(calls)
        return replies

    def _drains_of(self, call: _Call) -> _Call:
        """What of a call is worth sending though memory is full; the rest fails here."""
        fault = StoreFull(f"partition {call.partition}: Redis is at its memory limit; nothing was done")
        drains = [item for item in call.items if item.record[0] in DRAINS]
        self._under_way -= len(call.items) - len(drains)
        for item in call.items:
            if item.record[0] not in DRAINS:
                _fail(item, fault)
        return _Call(call.partition, drains)

    def _deliver(self, call: _Call, reply: Any) -> None:
        self._under_way -= len(call.items)
        self.calls += 1
        self.operations += len(call.items)
        if isinstance(reply, Exception):
            fault = _fault(call.partition, reply)
            for item in call.items:
                _fail(item, fault)
            return
        self.clocks.hear(call.partition, reply[0])
        for item, answer in zip(call.items, reply[2:], strict=True):
            if answer[:1] == b"!":
                _fail(item, StepFailed(answer[1:].decode("utf-8", "replace")))
            elif not item.future.done():
                item.future.set_result(answer)


def _group(queue: list[_Waiting]) -> list[_Call]:
    """One call per partition and ``BATCH_OPS_MAX`` operations, each partition's in their order."""
    by_partition: defaultdict[int, list[_Waiting]] = defaultdict(list)
    for item in queue:
        by_partition[item.partition].append(item)
    size = limits.BATCH_OPS_MAX
    return [
        _Call(partition, items[at : at + size])
        for partition, items in by_partition.items()
        for at in range(0, len(items), size)
    ]


def _fault(partition: int, error: Exception) -> EngineFault:
    """What an error reply or a lost connection means to the callers."""
    if isinstance(error, EngineFault):
        return error
    text = str(error)
    if isinstance(error, ResponseError):
        if text.startswith(("EPOCH", "UNCERTIFIED", "Function not found", "ERR Function not found")):
            return PartitionClosed(f"partition {partition}: {text}")
        if text.startswith(("LOADING", "MASTERDOWN", "READONLY", "CLUSTERDOWN")):
            return PartitionClosed(f"partition {partition} takes no writes now: {text}")
        return StepFailed(text)
    return OutcomeUnknown(f"partition {partition}: {type(error).__name__}: {text}")


def _fail(item: _Waiting, fault: EngineFault) -> None:
    if not item.future.done():
        item.future.set_exception(fault)
        # A caller that stopped waiting never reads it; that is not a fault of ours.
        item.future.exception()
