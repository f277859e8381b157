"""The classes of faults: how each strikes the system. A new class is one more row of ``CLASSES``.

A strike returns when the fault itself is over: at once for a kill, after SIGCONT for a stop, when replies
pass again for a loss, after the rebuild that a lost Redis needs. What the system needs to recover is measured
from there.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from random import Random

import msgspec

from engine.settings import Acknowledge
from tests.faults import clocks, disks, failovers, restores, traces
from tests.faults.system import System

STOP_S, LONG_STOP_S, LONG_STOPS = (1.0, 5.0), (5.0, 30.0), 0.2
SHORT_STOP_S = (1.0, 1.3)
LOSS_S = (0.3, 1.0)
NOTICE_S = 1.0
SLOW_MS, SLOW_S, SHORT_SLOW_S = (20, 50), (1.0, 3.0), 1.0
FULL_S, LONG_FULL_S, LONG_FULLS, SHORT_FULL_S = (2.0, 8.0), 60.0, 0.1, 2.0
STEP_S, STEPPED_S = 30.0, 1.0
# A fault that takes away what Redis had: only this policy promises that nothing acknowledged goes with it.
SAFE = (Acknowledge.POSTGRES,)
# The policy of a cluster; all others are played on one Redis.
ON_A_CLUSTER = (Acknowledge.REPLICA,)
Strike = Callable[[System, Random, bool], Awaitable[None]]


class FaultClass(msgspec.Struct, frozen=True):
    """A kind of fault. ``strike(system, chance, is_short)`` does it and returns when it is over.

    ``policies`` are those under which all figures must be 0, and say where it is played: ``replica`` on a
    cluster, the others on one Redis. ``prepare`` comes some time before. ``lacks`` says what this machine
    lacks for it. ``needs_small_disks`` and ``needs_own_clock``: a rigged system.
    """

    name: str
    strike: Strike
    policies: tuple[Acknowledge, ...] = (Acknowledge.FSYNC, Acknowledge.POSTGRES)
    prepare: Strike | None = None
    lacks: Callable[[], str] | None = None
    needs_small_disks: bool = False
    needs_own_clock: bool = False

    @property
    def is_rigged(self) -> bool:
        """Whether it needs a system that was made for it."""
        return self.needs_small_disks or self.needs_own_clock


async def kill(name: str, system: System, chance: Random, is_short: bool) -> None:
    """End a child and all below it, unasked and unsaved."""
    await system.kill(name)


async def stop(name: str, system: System, chance: Random, is_short: bool) -> None:
    """Freeze a child and all below it, then let it wake up."""
    long = not is_short and chance.random() < LONG_STOPS
    await system.stop(name, chance.uniform(*(SHORT_STOP_S if is_short else LONG_STOP_S if long else STOP_S)))


async def lose_replies(system: System, chance: Random, is_short: bool) -> None:
    """Redis executes, and nobody hears of it."""
    await system.proxy.lose(chance.uniform(*LOSS_S))


async def slow_disk(name: str, system: System, chance: Random, is_short: bool) -> None:
    """Every fdatasync of a store takes tens of milliseconds longer."""
    seconds = SHORT_SLOW_S if is_short else chance.uniform(*SLOW_S)
    await traces.slow(await system.pids(name), chance.randint(*SLOW_MS), seconds)


async def failing_disk(name: str, system: System, chance: Random, is_short: bool) -> None:
    """A store's fdatasync fails, in each of its processes at most once."""
    await traces.fail_once(await system.pids(name))


async def full_disk(name: str, system: System, chance: Random, is_short: bool) -> None:
    """No room for a store, for a while."""
    long = not is_short and chance.random() < LONG_FULLS
    seconds = SHORT_FULL_S if is_short else LONG_FULL_S if long else chance.uniform(*FULL_S)
    await disks.hold_full(system.disk(name), seconds)


async def step_clock(system: System, chance: Random, is_short: bool) -> None:
    """Somebody sets the clock of Redis' host."""
    if system.clock is None:
        raise ValueError("this system has no clock of its own")
    await system.clock.step(chance.uniform(-STEP_S, STEP_S), system.redis.url)
    await asyncio.sleep(STEPPED_S)


async def sabotage(system: System, chance: Random, is_short: bool) -> None:
    """Break promises on purpose, and let the writers notice."""
    await system.sabotage()
    await asyncio.sleep(NOTICE_S)


CHILDREN = {"redis": "Redis", "api": "API", "persister": "persister", "postgres": "Postgres"}
STORES = {name: CHILDREN[name] for name in ("redis", "postgres")}
FAILOVERS = {
    "kill -9 of a master": failovers.kill_master,
    "kill -9 of a master until it is replaced": failovers.replace_master,
    "loss of a master with its disk": failovers.lose_master,
    "SIGSTOP of a master": failovers.freeze_master,
    "kill -9 of a replica": failovers.kill_replica,
    "kill -9 of all replicas": failovers.kill_replicas,
}
CLASSES = (
    *(FaultClass(f"kill -9 of {words}", partial(kill, name)) for name, words in CHILDREN.items()),
    *(FaultClass(f"SIGSTOP of {words}", partial(stop, name)) for name, words in CHILDREN.items()),
    FaultClass("replies lost after execution", lose_replies),
    FaultClass("Redis comes back empty", restores.empty, SAFE),
    FaultClass("Redis comes back older", restores.older, SAFE, restores.copy),
    FaultClass("append-only file cut", restores.cut, SAFE),
    FaultClass("FLUSHALL", restores.flush, SAFE),
    *(
        FaultClass(f"slow fdatasync of {words}", partial(slow_disk, name), lacks=traces.lacks)
        for name, words in STORES.items()
    ),
    *(
        FaultClass(f"failing fdatasync of {words}", partial(failing_disk, name), lacks=traces.lacks)
        for name, words in STORES.items()
    ),
    *(
        FaultClass(
            f"full disk of {words}", partial(full_disk, name), lacks=disks.lacks, needs_small_disks=True
        )
        for name, words in STORES.items()
    ),
    FaultClass("clock of Redis set", step_clock, lacks=clocks.lacks, needs_own_clock=True),
    *(FaultClass(f"cluster: {words}", strike, ON_A_CLUSTER) for words, strike in FAILOVERS.items()),
    *(
        FaultClass(f"cluster: kill -9 of {CHILDREN[name]}", partial(kill, name), ON_A_CLUSTER)
        for name in ("api", "persister", "postgres")
    ),
)
# Not a fault that anybody promised to survive: it shows that the harness can fail.
CONTROL = (FaultClass("control: sabotage", sabotage, tuple(Acknowledge)),)


def without(classes: Sequence[FaultClass]) -> dict[str, str]:
    """Those that cannot be played here, and why."""
    return {one.name: words for one in classes if one.lacks and (words := one.lacks())}
