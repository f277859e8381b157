"""How near the stores are to their bounds, and what is given up first (``engine/limits.py``, GROWTH).

While Postgres is away or slow, the outboxes grow, and with them Redis' memory. Registered people go on
booking; from half of the backlog's bound on, bookings are let in by a share that falls to none at the bound,
from three quarters on no new holds are made, and at the bound bookings are refused with Retry-After. Memory
counts the same way from ``MEMORY_SHARE_SLOW`` of maxmemory to ``MEMORY_SHARE_MAX``. Cancelling, reading and
asking what became of an operation go on all the while, and so does a booking that was made before: asked for
again, it gets its old answer.
"""

import asyncio
from collections.abc import Callable
from enum import IntEnum

from engine import limits
from engine.errors import Backlogged


class Level(IntEnum):
    """What is given up."""

    NOTHING = 0
    SOME_BOOKINGS = 1
    HOLDS = 2
    BOOKINGS = 3


class Pressure:
    """One process's view.

    ``groups``: the partitions of each server. ``backlog``: events of a partition that Postgres lacks.
    ``memory``: the used share of its server's maximum. ``chance`` draws from 0 up to 1.
    """

    def __init__(
        self,
        groups: Callable[[], list[list[int]]],
        backlog: Callable[[int], int],
        memory: Callable[[int], float],
        chance: Callable[[], float],
    ) -> None:
        self._groups = groups
        self._backlog = backlog
        self._memory = memory
        self._chance = chance
        self._shares: dict[int, float] = {}

    def share(self, partition: int) -> float:
        """How much of the nearest bound is used: 1 at the bound."""
        return self._shares.get(partition, 0.0)

    @property
    def worst(self) -> float:
        """The share of the partition that is nearest to a bound."""
        return max(self._shares.values(), default=0.0)

    def level(self, partition: int) -> Level:
        """What is given up there now."""
        share = self.share(partition)
        if share >= 1:
            return Level.BOOKINGS
        if share >= limits.PRESSURE_HOLDS:
            return Level.HOLDS
        return Level.SOME_BOOKINGS if share >= limits.PRESSURE_SLOW else Level.NOTHING

    def admit(self, *partitions: int, holds: bool = False) -> None:
        """Let a booking, or a hold, in that writes to these partitions, or raise ``Backlogged``."""
        share = max(map(self.share, partitions))
        if holds and share >= limits.PRESSURE_HOLDS:
            raise Backlogged(f"partitions {partitions} hold no more seats for now")
        if share < limits.PRESSURE_SLOW:
            return
        if self._chance() * (1 - limits.PRESSURE_SLOW) >= 1 - share:
            raise Backlogged(f"partitions {partitions} are at {share:.0%} of what their stores can hold")

    def measure(self) -> None:
        """Look at the stores' figures once."""
        for partitions in self._groups():
            backlog = sum(map(self._backlog, partitions)) / limits.BACKLOG_EVENTS_MAX
            for partition in partitions:
                self._shares[partition] = max(backlog, _of_memory(self._memory(partition)))

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.measure()
            await asyncio.sleep(limits.STANDING_S)


def _of_memory(used: float) -> float:
    """A used share of maxmemory on the scale of the backlog: slow at the one bound, refused at the other.

    A straight line through both. Courses stay, so memory is well used in the best of times, and half of the
    bound says nothing; but it is never given back by waiting either.
    """
    left = (limits.MEMORY_SHARE_MAX - used) / (limits.MEMORY_SHARE_MAX - limits.MEMORY_SHARE_SLOW)
    return max(0.0, 1 - left * (1 - limits.PRESSURE_SLOW))
