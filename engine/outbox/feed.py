"""Reads the outboxes of all partitions from given sequences on, and proves that nothing is missing between.

Ids are ``epoch-sequence``, and a sequence follows the one before by 1: Redis counts them. An entry that
does not is an ``OutboxGap`` of its partition; the others go on.

One XREAD takes all partitions at one instant of the server. So a read that no limit cut short is a
consistent cut: what an event follows from, in whatever partition, is in the same read or was in an earlier
one.
"""

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.errors import OutboxGap
from engine.redis.keyspace import Keyspace


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One entry of an outbox, still packed."""

    partition: int
    sequence: int
    payload: bytes


class Position(msgspec.Struct, frozen=True):
    """A partition's epoch, and the last sequence that was read; -1 for none."""

    epoch: int
    sequence: int

    @property
    def id(self) -> bytes:
        """The id to read after. Before the first event: the last id of the epoch before."""
        if self.sequence < 0:
            return b"%d-%d" % (self.epoch - 1, 2**64 - 1)
        return b"%d-%d" % (self.epoch, self.sequence)


class Read(msgspec.Struct, frozen=True):
    """Entries by partition, in order; the faults of those that could not be read; which were cut short."""

    entries: dict[int, list[Entry]]
    faults: dict[int, OutboxGap]
    cut: frozenset[int] = frozenset()

    @property
    def complete(self) -> bool:
        """Whether all was read."""
        return not self.cut


class Feed:
    """The outboxes of a deployment. ``client`` may block: it is of this feed's own."""

    def __init__(self, client: Any, keyspace: Keyspace) -> None:
        self._client = client
        self._outboxes = {keyspace.outbox(p): p for p in range(keyspace.partitions)}
        self._keys = {p: key for key, p in self._outboxes.items()}

    async def read(self, positions: Mapping[int, Position], count: int, block_ms: int | None = None) -> Read:
        """Up to ``count`` entries after each position; with ``block_ms``, waits that long for the first."""
        streams = {self._keys[p]: position.id for p, position in positions.items()}
        if not streams:
            return Read({}, {})
        reply = await self._client.xread(streams, count=count, block=block_ms)
        entries: dict[int, list[Entry]] = {}
        faults: dict[int, OutboxGap] = {}
        for key, items in reply or ():
            partition = self._outboxes[key]
            try:
                entries[partition] = list(_entries(partition, positions[partition], items))
            except OutboxGap as gap:
                faults[partition] = gap
        cut = frozenset(partition for partition, items in entries.items() if len(items) >= count)
        return Read(entries, faults, cut)

    async def firsts(self, partitions: Iterable[int]) -> dict[int, int]:
        """Sequence of the first entry that is still in each outbox; nothing for an empty one."""
        wanted = list(partitions)
        pipeline = self._client.pipeline(transaction=False)
        for partition in wanted:
            pipeline.xrange(self._keys[partition], count=1)
        replies = await pipeline.execute()
        return {
            p: int(reply[0][0].partition(b"-")[2]) for p, reply in zip(wanted, replies, strict=True) if reply
        }

    async def epochs(self, keyspace: Keyspace) -> dict[int, int | None]:
        """Epoch of every partition as Redis has it; None where it has none."""
        pipeline = self._client.pipeline(transaction=False)
        for partition in range(keyspace.partitions):
            pipeline.hget(keyspace.meta(partition), "epoch")
        replies = await pipeline.execute()
        return {p: None if epoch is None else int(epoch) for p, epoch in enumerate(replies)}

    async def ends(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Epoch and last sequence ever written of each outbox; an outbox without any event has none."""
        wanted = list(partitions)
        pipeline = self._client.pipeline(transaction=False)
        for partition in wanted:
            pipeline.execute_command("XINFO", "STREAM", self._keys[partition])
        replies = await pipeline.execute(raise_on_error=False)
        return {
            partition: end
            for partition, reply in zip(wanted, replies, strict=True)
            if (end := end_of(reply)) is not None
        }


def digest_of(position: Position, payload: bytes) -> bytes:
    """What Postgres keeps of the entry at a watermark: 16 bytes of SHA-256 over its id and its event."""
    return hashlib.sha256(position.id + b" " + payload).digest()[:16]


def _entries(partition: int, after: Position, items: Any) -> Iterable[Entry]:
    expected = after.sequence + 1
    for entry_id, fields in items:
        if entry_id != b"%d-%d" % (after.epoch, expected):
            raise OutboxGap(
                f"partition {partition}: the outbox goes on with {entry_id.decode()} where"
                f" {after.epoch}-{expected} must come: events are missing"
            )
        yield Entry(partition, expected, fields.get(b"e", b""))
        expected += 1


def end_of(reply: Any) -> Position | None:
    """The position in an XINFO STREAM reply; None where the stream does not exist."""
    if isinstance(reply, Exception):
        if "no such key" in str(reply):
            return None
        raise reply
    last = dict(zip(reply[::2], reply[1::2], strict=True))[b"last-generated-id"]
    epoch, _, sequence = last.partition(b"-")
    return Position(int(epoch), int(sequence))
