"""Reads the outboxes of all partitions from given sequences on, and proves that nothing is missing between.

Ids are ``epoch-sequence``, and a sequence follows the one before by 1: Redis counts them. An entry that
does not is an ``OutboxGap`` of its partition; the others go on.

On one server one XREAD takes all partitions at one instant. So a read that no limit cut short is a
consistent cut: what an event follows from, in whatever partition, is in the same read or was in an earlier
one. On several servers there is no such instant: what an event follows from may be missing in its read, but
not in the next one, which began later (``rounds.py``).
"""

import asyncio
import hashlib
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from engine import limits
from engine.errors import OutboxGap
from engine.redis.nodes import FAULTS, Nodes


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
    """Entries by partition, in order, and what is missing.

    ``faults``: partitions with a gap. ``cut``: those with more to be read. ``away``: those whose server did
    not answer. ``at_once``: whether all was read at one instant.
    """

    entries: dict[int, list[Entry]]
    faults: dict[int, OutboxGap]
    cut: frozenset[int] = frozenset()
    away: frozenset[int] = frozenset()
    at_once: bool = True

    @property
    def complete(self) -> bool:
        """Whether all was read."""
        return not self.cut and not self.away


class Feed:
    """The outboxes of a deployment. One reading at a time may wait at a server."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._keys = {p: nodes.keyspace.outbox(p) for p in range(nodes.keyspace.partitions)}
        self._outboxes = {key: p for p, key in self._keys.items()}

    async def read(self, positions: Mapping[int, Position], count: int, block_ms: int = 0) -> Read:
        """Up to ``count`` entries after each position; waits up to ``block_ms`` for the first.

        On one server, raises what Redis raises.
        """
        if not positions:
            return Read({}, {})
        if self._nodes.is_cluster:
            return await self._poll(positions, count, block_ms)
        streams = {self._keys[p]: position.id for p, position in positions.items()}
        reply = await self._nodes.of(0).waiting.xread(streams, count=count, block=block_ms or None)
        return _read({self._outboxes[key]: items for key, items in reply or ()}, positions, count)

    async def firsts(self, partitions: Iterable[int]) -> dict[int, int]:
        """Sequence of the first entry that is still in each outbox; nothing for an empty one."""
        replies = await self._ask(partitions, lambda key: ("XRANGE", key, "-", "+", "COUNT", 1))
        return {p: int(reply[0][0].partition(b"-")[2]) for p, reply in replies.items() if reply}

    async def ends(self, partitions: Iterable[int]) -> dict[int, Position]:
        """Epoch and last sequence ever written of each outbox; an outbox without any event has none."""
        replies = await self._ask(partitions, lambda key: ("XINFO", "STREAM", key), tolerant=True)
        ends = {p: end_of(reply) for p, reply in replies.items()}
        return {p: end for p, end in ends.items() if end is not None}

    async def _poll(self, positions: Mapping[int, Position], count: int, block_ms: int) -> Read:
        until = time.monotonic() + block_ms / 1000
        while True:
            read = await self._read_each(positions, count)
            if read.entries or read.faults or time.monotonic() >= until:
                return read
            await asyncio.sleep(limits.POLL_S)

    async def _read_each(self, positions: Mapping[int, Position], count: int) -> Read:
        replies = await self._ask(
            positions,
            lambda key: ("XREAD", "COUNT", count, "STREAMS", key, positions[self._outboxes[key]].id),
            tolerant=True,
        )
        found = {p: reply[0][1] for p, reply in replies.items() if isinstance(reply, list) and reply}
        read = _read(found, positions, count)
        away = frozenset(p for p, reply in replies.items() if isinstance(reply, FAULTS))
        return msgspec.structs.replace(read, away=away, at_once=False)

    async def _ask(
        self, partitions: Iterable[int], command: Callable[[bytes], Any], *, tolerant: bool = False
    ) -> dict[int, Any]:
        wanted = list(partitions)
        commands = [(partition, command(self._keys[partition])) for partition in wanted]
        return dict(zip(wanted, await self._nodes.ask(commands, tolerant=tolerant), strict=True))


def _read(found: Mapping[int, Any], positions: Mapping[int, Position], count: int) -> Read:
    entries: dict[int, list[Entry]] = {}
    faults: dict[int, OutboxGap] = {}
    for partition, items in found.items():
        try:
            entries[partition] = list(_entries(partition, positions[partition], items))
        except OutboxGap as gap:
            faults[partition] = gap
    cut = frozenset(partition for partition, items in entries.items() if len(items) >= count)
    return Read(entries, faults, cut)


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
