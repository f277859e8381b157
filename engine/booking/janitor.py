"""The janitor: ends holds that are over, so that their seats are free again even if nobody asks for them.

Each partition for itself, once a second: one that is away holds up no other. A taker who finds nothing free
ends holds too, so nothing depends on the janitor's being in time, and two janitors do no harm. A partition
that is closed or away is told of once, and again when it is back.
"""

import asyncio
from collections.abc import Callable

from engine import limits
from engine.booking.steps import Sender
from engine.errors import EngineFault
from engine.inventory import codec


class Janitor:
    """Ends holds in so many partitions, through the batcher."""

    def __init__(self, partitions: int, sender: Sender, say: Callable[[str], None]) -> None:
        self._partitions = partitions
        self._sender = sender
        self._say = say
        self._passed_over: set[int] = set()

    async def run(self) -> None:
        """Work until cancelled."""
        await asyncio.gather(*(self._keep(partition) for partition in range(self._partitions)))

    async def once(self, partition: int) -> int:
        """End the holds of a partition that are over; how many there were. 0 where it is closed or away."""
        ended = 0
        try:
            while (more := await self._expire(partition)) == limits.EXPIRE_HOLDS_MAX:
                ended += more
        except EngineFault as fault:
            self._pass_over(partition, fault)
            return ended
        if partition in self._passed_over:
            self._passed_over.discard(partition)
            self._say(f"holds of partition {partition} end again")
        return ended + more

    async def _keep(self, partition: int) -> None:
        while True:
            await asyncio.sleep(limits.EXPIRE_S)
            await self.once(partition)

    async def _expire(self, partition: int) -> int:
        answer = await self._sender.put(partition, codec.expire(limits.EXPIRE_HOLDS_MAX))
        (ended,) = codec.EXPIRE.unpack_from(answer, 1)
        return int(ended)

    def _pass_over(self, partition: int, fault: EngineFault) -> None:
        if partition not in self._passed_over:
            self._passed_over.add(partition)
            self._say(f"holds of partition {partition} do not end: {type(fault).__name__}: {fault}")
