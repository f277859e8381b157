"""Sweeps what a process left in doubt when it died: guards that it claimed, seats that it set aside.

A guard seen ``claimed`` at one generation in two sweeps is resolved, never just freed: the course is asked
first, and a tombstone is left where there is none, so a take that comes late is refused. A part seen ``set
aside`` in two sweeps likewise: its home is asked, and cannot count it any more if it does not yet. Nobody is
locked out, and no seat is kept from others, for longer than two sweeps even if they never ask again; a claim
of the same person resolves it at once anyway. Needed with several partitions only: within one, neither is
left behind. A server that is away holds up what lives there or leads there, nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec
from redis.exceptions import RedisError

from engine import limits
from engine.errors import EngineFault, OutcomeUnknown, PartitionClosed
from engine.inventory import codec
from engine.redis.nodes import Nodes, partition_of

Resolve = Callable[[bytes, int, codec.Live], Awaitable[bool]]
SettlePart = Callable[[codec.PartId, codec.Part, int], Awaitable[bool]]
SET_ASIDE = b"s"


class Doubts(msgspec.Struct):
    """Claims by person and kind, parts by partition and id."""

    claims: dict[tuple[bytes, int], codec.Live] = {}
    parts: dict[tuple[int, codec.PartId], codec.Part] = {}


class Sweep:
    """Ends what is in doubt through the protocol's own steps.

    These are ``resolve(person, kind, live)`` (``engine.booking.resolve``) and ``settle_part(part, record,
    partition)`` (``engine.booking.move``).
    """

    def __init__(
        self, nodes: Nodes, resolve: Resolve, settle_part: SettlePart, say: Callable[[str], None]
    ) -> None:
        self._nodes = nodes
        self._keyspace = nodes.keyspace
        self._resolve = resolve
        self._settle_part = settle_part
        self._say = say
        self._seen = Doubts()

    async def run(self) -> None:
        """Sweep until cancelled. With one partition there is nothing to sweep, and this waits for ever."""
        if self._keyspace.partitions == 1:
            await asyncio.Event().wait()
        while True:
            await asyncio.sleep(limits.SWEEP_S)
            try:
                await self.once()
            except (RedisError, OSError, TimeoutError, EngineFault) as error:
                self._say(f"sweep put off: {type(error).__name__}: {error}")

    async def once(self) -> int:
        """One sweep; how many claims and parts were decided that the sweep before had seen as well."""
        before, self._seen = self._seen, await self._doubts()
        decided = 0
        for guard, live in self._seen.claims.items():
            if before.claims.get(guard) == live:
                decided += await self._end_claim(*guard, live)
        for (partition, part), record in self._seen.parts.items():
            if before.parts.get((partition, part)) == record:
                decided += await self._end_part(partition, part, record)
        return decided

    async def _end_claim(self, person: bytes, kind: int, live: codec.Live) -> bool:
        words = f"stale claim: person {person.hex()[:8]}, kind {kind}"
        return await self._end(words, self._resolve(person, kind, live), ("booked", "free"))

    async def _end_part(self, partition: int, part: codec.PartId, record: codec.Part) -> bool:
        words = f"seat set aside in partition {partition} for person {part.course.person.hex()[:8]}"
        return await self._end(words, self._settle_part(part, record, partition), ("kept", "given back"))

    async def _end(self, words: str, deciding: Awaitable[bool], outcomes: tuple[str, str]) -> bool:
        """Decide about one and say so; False where a server is away."""
        try:
            stays = await deciding
        except (OutcomeUnknown, PartitionClosed) as error:
            self._say(f"put off a {words}: {error}")
            return False
        self._say(f"resolved a {words}: {outcomes[0] if stays else outcomes[1]}")
        return True

    async def _doubts(self) -> Doubts:
        found = Doubts()
        async for partition, bucket in self._buckets():
            for field, record in bucket.items():
                if codec.is_guard(field) and record[:1] in codec.CLAIMED:
                    found.claims[codec.guard_field(field)] = codec.live(record[: codec.LIVE.size])
                elif codec.is_part(field) and record[:1] == SET_ASIDE:
                    found.parts[partition, codec.part_id(field)] = codec.part(record)
        return found

    async def _buckets(self) -> AsyncIterator[tuple[int, dict[bytes, bytes]]]:
        async for keys in self._nodes.scan(self._keyspace.all_people, tolerant=self._nodes.is_cluster):
            commands = [(partition_of(key), ("HGETALL", key)) for key in keys]
            replies = await self._nodes.ask(commands, tolerant=self._nodes.is_cluster)
            for (partition, _), bucket in zip(commands, replies, strict=True):
                if isinstance(bucket, dict):
                    yield partition, bucket
            await asyncio.sleep(limits.SWEEP_PAUSE_S)
