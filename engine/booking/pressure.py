"""How near the stores are to their bounds, and what is given up first (``engine/limits.py``, GROWTH).

While Postgres is away or slow, the outboxes grow, and with them Redis' memory. Registered people go on
booking; from half of a bound on, bookings are let in by a share that falls to none at the bound, from three
quarters on no new holds are made, and at the bound bookings are refused with Retry-After. Cancelling, reading
and asking what became of an operation go on all the while.
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

    def admit(self, partition: int) -> None:
        """Let a booking in, or raise ``Backlogged``."""
        share = self.share(partition)
        if share < limits.PRESSURE_SLOW:
            return
        if self._chance() * (1 - limits.PRESSURE_SLOW) >= 1 - share:
            raise Backlogged(f"partition {partition} is at {share:.0%} of what its stores can hold")

    def measure(self) -> None:
        """Look at the stores' figures once."""
        for partitions in self._groups():
            backlog = sum(self._backlog(partition) for partition in partitions) / limits.BACKLOG_EVENTS_MAX
            for partition in partitions:
                memory = self._memory(partition) / limits.MEMORY_SHARE_MAX
                self._shares[partition] = max(backlog, memory)

    async def follow(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            self.measure()
            await asyncio.sleep(limits.STANDING_S)
