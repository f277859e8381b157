"""Sweeps stale claims: guards that a process claimed and left behind when it died.

A guard seen ``claimed`` at one generation in two sweeps is resolved, never just freed: the course is asked
first, and a tombstone is left where there is none, so a take that comes late is refused. Nobody is locked
out for longer than two sweeps even if they never ask again; a claim of the same person resolves it at once
anyway. Needed with several partitions only: within one, a claim is never left behind. A server that is away
holds up the claims that live there or lead there, no others.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from redis.exceptions import RedisError

from engine import limits
from engine.errors import EngineFault, OutcomeUnknown, PartitionClosed
from engine.inventory import codec
from engine.redis.nodes import Nodes, partition_of

Claims = dict[tuple[bytes, int], codec.Live]
Resolve = Callable[[bytes, int, codec.Live], Awaitable[bool]]


class Sweep:
    """Resolves through ``resolve(person, kind, live)``, the protocol's own (``engine.booking.resolve``)."""

    def __init__(self, nodes: Nodes, resolve: Resolve, say: Callable[[str], None]) -> None:
        self._nodes = nodes
        self._keyspace = nodes.keyspace
        self._resolve = resolve
        self._say = say
        self._seen: Claims = {}

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
        """One sweep; how many claims were resolved that the sweep before had seen as well."""
        claims = await self._claims()
        stale = {guard: live for guard, live in claims.items() if self._seen.get(guard) == live}
        self._seen = claims
        told = [await self._end(person, kind, live) for (person, kind), live in stale.items()]
        return sum(told)

    async def _end(self, person: bytes, kind: int, live: codec.Live) -> bool:
        """Resolve one claim and say so; False where a server is away."""
        words = f"stale claim: person {person.hex()[:8]}, kind {kind}"
        try:
            booked = await self._resolve(person, kind, live)
        except (OutcomeUnknown, PartitionClosed) as error:
            self._say(f"put off a {words}: {error}")
            return False
        self._say(f"resolved a {words}: {'booked' if booked else 'free'}")
        return True

    async def _claims(self) -> Claims:
        claims: Claims = {}
        async for bucket in self._buckets():
            for field, record in bucket.items():
                if codec.is_guard(field) and record[:1] in codec.CLAIMED:
                    claims[codec.guard_field(field)] = codec.live(record[: codec.LIVE.size])
        return claims

    async def _buckets(self) -> AsyncIterator[dict[bytes, bytes]]:
        async for keys in self._nodes.scan(self._keyspace.all_people, tolerant=self._nodes.is_cluster):
            commands = [(partition_of(key), ("HGETALL", key)) for key in keys]
            for bucket in await self._nodes.ask(commands, tolerant=self._nodes.is_cluster):
                if isinstance(bucket, dict):
                    yield bucket
            await asyncio.sleep(limits.SWEEP_PAUSE_S)
