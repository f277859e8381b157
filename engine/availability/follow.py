"""Keeps the board current: loads the masks of a partition, then follows its outbox.

The position in the outbox is noted *before* the masks are read, and applying an event twice is harmless, so
no event is missed. A gap (trimmed, rebuilt) loads that partition anew; so does an outbox that ends before the
position, which is another Redis. A partition that Redis does not have under the epoch in Postgres (lost, or
being rebuilt) is read as it is, and again with every check until Redis has it. A lost connection loads
everything anew once Redis answers. Meanwhile the board stays readable, and its age grows.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

import structlog

from engine import limits
from engine.availability.board import Board
from engine.inventory import codec
from engine.outbox.feed import Entry, Feed, Position
from engine.redis.nodes import FAULTS, Nodes

OPEN = b"o"
_log = structlog.get_logger("availability")


class Follower:
    """Loads and follows. ``epochs`` gives each partition's epoch; ``saw`` is told of every event followed."""

    def __init__(
        self,
        nodes: Nodes,
        epochs: Callable[[int], int],
        board: Board,
        saw: Callable[[codec.Event], None] = lambda event: None,
    ) -> None:
        self.events = 0
        self.loads = 0
        self.as_of_s = 0.0
        self._nodes = nodes
        self._keyspace = keyspace = nodes.keyspace
        self._epochs = epochs
        self._board = board
        self._feed = Feed(nodes)
        self._saw = saw
        self._positions: dict[int, Position] = {}
        self._loaded_at: dict[int, Position] = {}
        self._to_load = set(range(keyspace.partitions))
        self._check_at_s = 0.0

    @property
    def lag_s(self) -> float:
        """How old the board is: seconds since it was last known to be current."""
        return max(0.0, time.time() - self.as_of_s)

    @property
    def is_loaded(self) -> bool:
        """Whether every partition has been loaded and is followed."""
        return not self._to_load

    def end(self, partition: int) -> Position:
        """Up to where the partition's outbox was followed."""
        return self._positions.get(partition, Position(0, -1))

    def partition_of(self, location: int) -> int:
        """Partition of a location's sessions."""
        return self._keyspace.of_location(location)

    def loaded_at(self, partition: int) -> Position | None:
        """Where the partition's outbox ended when it was loaded; None before that."""
        return self._loaded_at.get(partition)

    async def load(self) -> None:
        """Load every partition that is due.

        On a cluster the partitions of a server that is away stay due. Raises what Redis raises if nothing is
        loaded then.
        """
        sessions, fault = self._sessions_by_partition(), None
        for partition in sorted(self._to_load):
            try:
                await self._load_partition(partition, sessions[partition])
            except FAULTS as error:
                fault = error
        if fault is None:
            self.as_of_s = time.time()
        elif len(self._to_load) == self._keyspace.partitions:
            raise fault

    async def run(self) -> None:
        """Follow for ever; ends by cancellation only."""
        while True:
            try:
                await self._step()
            except FAULTS as error:
                self._lose(range(self._keyspace.partitions), type(error).__name__)
                await asyncio.sleep(limits.FOLLOW_RETRY_S)

    def _lose(self, partitions: Iterable[int], why: str) -> None:
        """These are loaded anew before they are followed again."""
        lost = set(partitions)
        if not lost <= self._to_load:
            _log.warning("board.lost_redis", partitions=sorted(lost), error=why)
        self._to_load |= lost
        for partition in lost:
            self._positions.pop(partition, None)

    async def _step(self) -> None:
        if self._to_load:
            await self.load()
        if time.monotonic() >= self._check_at_s:
            await self._check_ends()
        block_ms = int(limits.FOLLOW_BLOCK_S * 1000)
        read = await self._feed.read(self._positions, limits.FOLLOW_EVENTS_MAX, block_ms)
        now_s = time.time()
        for partition, entries in read.entries.items():
            self._apply(partition, entries)
        if read.away:
            self._lose(read.away, "no answer")
        if read.faults:
            _log.warning("board.gap", partitions=sorted(read.faults))
            self._to_load |= set(read.faults)
        elif read.complete and self.is_loaded:
            self.as_of_s = now_s
        # What arrives in this pause comes with one read; without it every booking would wake the follower.
        await asyncio.sleep(limits.FOLLOW_PAUSE_S if read.complete else 0)

    def _apply(self, partition: int, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        for entry in entries:
            event = codec.event(entry.payload)
            self._board.apply(event.entries)
            self._saw(event)
        self.events += len(entries)
        position = self._positions[partition]
        self._positions[partition] = Position(position.epoch, entries[-1].sequence)

    async def _check_ends(self) -> None:
        """An outbox that ends before our position, or in another epoch, is not the one we followed."""
        self._check_at_s = time.monotonic() + limits.FOLLOW_CHECK_S
        before = dict(self._positions)
        for partition, end in (await self._ends(before)).items():
            position = before[partition]
            if end.epoch != position.epoch or end.sequence < position.sequence:
                self._to_load.add(partition)

    async def _load_partition(self, partition: int, sessions: Sequence[int]) -> None:
        position = (await self._ends([partition]))[partition]
        # Asked before the masks are read: a rebuild writes the epoch last. The position of one that is not
        # open is the end of the epoch before, so the next check, or the first event, finds it to be wrong.
        epoch = await self._nodes.one(partition, "HGET", self._keyspace.meta(partition), "epoch")
        is_open = epoch is not None and int(epoch) == self._epochs(partition)
        for at in range(0, len(sessions), limits.LOAD_KEYS_MAX):
            await self._load_sessions(partition, sessions[at : at + limits.LOAD_KEYS_MAX])
        self._positions[partition] = position if is_open else Position(max(0, position.epoch - 1), 2**64 - 1)
        self._loaded_at[partition] = self._positions[partition]
        self._to_load.discard(partition)
        self.loads += 1

    async def _ends(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Where each outbox ends now; before the first event of its epoch, at -1."""
        wanted = list(partitions)
        starts = {partition: Position(self._epochs(partition), -1) for partition in wanted}
        found = await self._feed.ends(wanted)
        return {
            p: end if (end := found.get(p, start)).epoch >= start.epoch else start
            for p, start in starts.items()
        }

    async def _load_sessions(self, partition: int, sessions: Sequence[int]) -> None:
        keys = [self._keyspace.session(partition, session) for session in sessions]
        values = await self._nodes.one(partition, "MGET", *keys)
        for session, value in zip(sessions, values, strict=True):
            state, width, mask = (b"", 1, b"") if value is None else codec.stock(value)
            self._board.load(session, width, mask if state == OPEN else b"")

    def _sessions_by_partition(self) -> defaultdict[int, list[int]]:
        return _grouped(
            (self._keyspace.of_location(stock.location), stock.session) for stock in self._board.stocks()
        )


def _grouped(items: Iterable[tuple[int, int]]) -> defaultdict[int, list[int]]:
    groups: defaultdict[int, list[int]] = defaultdict(list)
    for key, value in items:
        groups[key].append(value)
    return groups
