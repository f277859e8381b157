"""The classes of faults: how each strikes the system. A new class is one more row of ``CLASSES``.

A strike returns when the fault itself is over: at once for a kill, after SIGCONT for a stop, when replies
pass again for a loss. What the system needs to recover is measured from there.
"""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from random import Random

import msgspec

from tests.faults.system import System

STOP_S, LONG_STOP_S, LONG_STOPS = (1.0, 5.0), (5.0, 30.0), 0.2
SHORT_STOP_S = (1.0, 1.3)
LOSS_S = (0.3, 1.0)
NOTICE_S = 1.0


class FaultClass(msgspec.Struct, frozen=True):
    """A kind of fault. ``strike(system, chance, is_short)`` does it and returns when it is over."""

    name: str
    strike: Callable[[System, Random, bool], Awaitable[None]]


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


async def sabotage(system: System, chance: Random, is_short: bool) -> None:
    """Break promises on purpose, and let the writers notice."""
    await system.sabotage()
    await asyncio.sleep(NOTICE_S)


CHILDREN = {"redis": "Redis", "api": "API", "persister": "persister", "postgres": "Postgres"}
CLASSES = (
    *(FaultClass(f"kill -9 of {words}", partial(kill, name)) for name, words in CHILDREN.items()),
    *(FaultClass(f"SIGSTOP of {words}", partial(stop, name)) for name, words in CHILDREN.items()),
    FaultClass("replies lost after execution", lose_replies),
)
# Not a fault that anybody promised to survive: it shows that the harness can fail.
CONTROL = (FaultClass("control: sabotage", sabotage),)
