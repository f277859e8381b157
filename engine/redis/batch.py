"""Carries operations to the partitions in batches: one pipeline per server and flush, a few under way.

There is no fixed window: what arrives while a server's pipelines are away goes with its next one. A caller
awaits the future of its own operation; if it stops waiting, the operation goes on and hurts no other in the
batch. A server that is slow or gone holds up the operations for its own partitions only.

When Redis' memory is full it refuses a whole call before its first write. Then those operations of the call
that give something back are sent once more, by the function that may run at ``maxmemory``; the others fail
with ``StoreFull``.

Failures: no reply in time, a connection lost, or an acknowledgement that did not come (``acknowledge.py``)
fails every operation concerned with ``OutcomeUnknown``; the connection is dropped, so that no reply can reach
another caller. A closed partition fails its own operations with ``PartitionClosed``.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from redis.exceptions import OutOfMemoryError, ResponseError

from engine import limits
from engine.errors import (
    EngineFault,
    OutcomeUnknown,
    PartitionClosed,
    QueueFull,
    StepFailed,
    StoreFull,
)
from engine.redis.acknowledge import ON_DISK, Acknowledgement, Committed, Wait
from engine.redis.clocks import Clocks
from engine.redis.nodes import ELSEWHERE, FAULTS, Node, Nodes, have_all, wait_commands

STEP = "dosebook_step"
DRAIN = "dosebook_drain"
# Codes of the operations that `dosebook_drain` takes (engine/inventory/scripts/step.lua).
DRAINS = frozenset(b"sufrxglmeydkq")
# Error replies that say: nothing was done, and nothing will be here for now.
CLOSED = ("EPOCH", "UNCERTIFIED", "Function not found", "ERR Function not found", "NOREPLICAS", "MISCONF")
# Not among them: LOADING, since the rest of its pipeline may pass.


class _Waiting(NamedTuple):
    partition: int
    record: bytes
    future: "asyncio.Future[bytes]"


class _Call(NamedTuple):
    partition: int
    items: list[_Waiting]
    # What its answer waits for, asked when it was sent: the process that answers is the one known then.
    wait: Wait | None


class Batcher:
    """Queues, flushes and delivery for one process. ``epochs`` gives the epoch to sell a partition under."""

    def __init__(
        self, nodes: Nodes, epochs: Callable[[int], int], acknowledgement: Acknowledgement = ON_DISK
    ) -> None:
        self.clocks = Clocks()
        self.calls = 0
        self.operations = 0
        self.pending = 0
        self._nodes = nodes
        self._epochs = epochs
        self._acknowledgement = acknowledgement
        self._lanes: dict[Node, _Lane] = {}

    def put(self, partition: int, record: bytes) -> "asyncio.Future[bytes]":
        """Queue one operation. Raises ``QueueFull`` when too many wait."""
        if self.pending >= limits.QUEUE_OPS_MAX:
            raise QueueFull(f"{limits.QUEUE_OPS_MAX} operations wait for Redis; try again in a second")
        item = _Waiting(partition, record, asyncio.get_running_loop().create_future())
        self.pending += 1
        try:
            self._lane(partition).put(item)
        except PartitionClosed as closed:
            self.fail([item], closed)
        return item.future

    async def close(self) -> None:
        """Let what is under way come home; fail what was never sent."""
        await asyncio.gather(*(lane.close() for lane in self._lanes.values()))

    async def send(self, node: Node, queue: list[_Waiting]) -> None:
        """Execute operations on their server and answer every one."""
        calls, again = _group(queue, self._acknowledgement.committed), []
        for call, reply in zip(calls, await self._replies(STEP, node, calls), strict=True):
            if isinstance(reply, OutOfMemoryError):
                again.append(self._drains_of(call))
            else:
                self._deliver(call, reply)
        drains = [call for call in again if call.items]
        if drains:
            for call, reply in zip(drains, await self._replies(DRAIN, node, drains), strict=True):
                self._deliver(call, reply)

    def fail(self, items: Sequence[_Waiting], fault: EngineFault) -> None:
        """Tell the callers of these items."""
        self.pending -= len(items)
        for item in items:
            if not item.future.done():
                item.future.set_exception(fault)
                # A caller that stopped waiting never reads it; that is not a fault of ours.
                item.future.exception()

    def _lane(self, partition: int) -> "_Lane":
        node = self._nodes.of(partition)
        lane = self._lanes.get(node)
        if lane is None:
            lane = self._lanes[node] = _Lane(node, self)
        return lane

    async def _replies(self, function: str, node: Node, calls: list[_Call]) -> Sequence[Any]:
        """The reply to each call, or what befell it."""
        pipeline = node.client.pipeline(transaction=False)
        keyspace = self._nodes.keyspace
        for partition, items, _ in calls:
            records = [item.record for item in items]
            pipeline.fcall(function, 1, keyspace.outbox(partition), self._epochs(partition), *records)
        replicas = self._acknowledgement.replicas and max(self._acknowledgement.replicas, node.replicas)
        if replicas:
            for command in wait_commands(keyspace, calls[0].partition, replicas):
                pipeline.execute_command(*command)
        try:
            try:
                # First, because nothing was sent where no connection can be had.
                pipeline.connection = await node.client.connection_pool.get_connection()
            except FAULTS as error:
                return [PartitionClosed(f"no connection to Redis: {type(error).__name__}")] * len(calls)
            replies: Sequence[Any] = await pipeline.execute(raise_on_error=False)
        except FAULTS as error:
            return [error] * len(calls)
        except asyncio.CancelledError:
            return [OutcomeUnknown("the process is stopping")] * len(calls)
        return _replicated(replies, replicas) if replicas else replies

    def _drains_of(self, call: _Call) -> _Call:
        """What of a call is worth sending though memory is full; the rest fails here."""
        fault = StoreFull(f"partition {call.partition}: Redis is at its memory limit; nothing was done")
        drains = [item for item in call.items if item.record[0] in DRAINS]
        self.fail([item for item in call.items if item.record[0] not in DRAINS], fault)
        return call._replace(items=drains)

    def _deliver(self, call: _Call, reply: Any) -> None:
        self.calls += 1
        self.operations += len(call.items)
        if isinstance(reply, Exception):
            return self.fail(call.items, _fault(call.partition, reply))
        self.clocks.hear(call.partition, reply[0])
        waiting = call.wait(reply[1]) if call.wait else None
        if waiting is None:
            self._tell(call, reply)
        else:
            waiting.add_done_callback(partial(self._acknowledged, call, reply))
        return None

    def _acknowledged(self, call: _Call, reply: Any, waiting: "asyncio.Future[None]") -> None:
        if waiting.cancelled():
            self.fail(call.items, OutcomeUnknown("the process is stopping"))
        elif fault := waiting.exception():
            self.fail(call.items, _fault(call.partition, fault))
        else:
            self._tell(call, reply)

    def _tell(self, call: _Call, reply: Any) -> None:
        for item, answer in zip(call.items, reply[2:], strict=True):
            if answer[:1] == b"!":
                self.fail([item], StepFailed(answer[1:].decode("utf-8", "replace")))
                continue
            self.pending -= 1
            if not item.future.done():
                item.future.set_result(answer)


class _Lane:
    """The queue for one server and its pipelines under way."""

    def __init__(self, node: Node, batcher: Batcher) -> None:
        self._node = node
        self._batcher = batcher
        self._queue: list[_Waiting] = []
        self._pipelines: set[asyncio.Task[None]] = set()
        self._scheduled = False

    def put(self, item: _Waiting) -> None:
        self._queue.append(item)
        self._schedule()

    async def close(self) -> None:
        queue, self._queue = self._queue, []
        self._batcher.fail(queue, QueueFull("the process is stopping; nothing was sent"))
        await asyncio.gather(*self._pipelines, return_exceptions=True)

    def _schedule(self) -> None:
        if not self._scheduled and len(self._pipelines) < limits.PIPELINES_MAX:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        if not self._queue:
            return
        queue, self._queue = self._queue, []
        work = self._batcher.send(self._node, queue)
        task = asyncio.get_running_loop().create_task(work)
        self._pipelines.add(task)
        task.add_done_callback(self._home)

    def _home(self, task: "asyncio.Task[None]") -> None:
        self._pipelines.discard(task)
        if self._queue:
            self._schedule()


def _group(queue: list[_Waiting], committed: Committed | None) -> list[_Call]:
    """One call per partition and ``BATCH_OPS_MAX`` operations, each partition's in their order."""
    by_partition: defaultdict[int, list[_Waiting]] = defaultdict(list)
    for item in queue:
        by_partition[item.partition].append(item)
    size = limits.BATCH_OPS_MAX
    return [
        _Call(partition, items[at : at + size], committed(partition) if committed else None)
        for partition, items in by_partition.items()
        for at in range(0, len(items), size)
    ]


def _replicated(replies: Sequence[Any], replicas: int) -> Sequence[Any]:
    """The replies of the calls, if the write behind them has reached the replicas; else nobody knows."""
    *told, touched, count = replies
    if have_all(touched, count, replicas):
        return told
    unknown = OutcomeUnknown(f"{count} of {replicas} replicas have acknowledged")
    return [reply if isinstance(reply, Exception) else unknown for reply in told]


def _fault(partition: int, error: BaseException) -> EngineFault:
    """What an error reply or a lost connection means to the callers."""
    if isinstance(error, EngineFault):
        return error
    text = str(error)
    if isinstance(error, ELSEWHERE):
        return PartitionClosed(
            f"partition {partition} takes no writes here now: {type(error).__name__}: {text}"
        )
    if isinstance(error, ResponseError):
        return (PartitionClosed if text.startswith(CLOSED) else StepFailed)(f"partition {partition}: {text}")
    return OutcomeUnknown(f"partition {partition}: {type(error).__name__}: {text}")
