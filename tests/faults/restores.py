"""What becomes of Redis' files while it is down, and the rebuild that follows.

A Redis that lacks anything that Postgres has must stay closed until it is rebuilt; one that turns out to have
it all may be certified, and goes on by itself.
"""

import asyncio
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random

from tests.faults.system import System
from tests.faults.trouble import StuckError

FILES = "appendonlydir"
COPY = "copied"
OLDER_S, SHORT_OLDER_S = (1.0, 5.0), (0.5, 1.0)
# Whatever was going to open a partition has opened it by then.
LOOKED_S = 1.0
NEAR_THE_END, NEAR_BYTES = 0.8, 65_536


async def empty(system: System, chance: Random, is_short: bool) -> None:
    """Redis dies, and its disk with it."""
    await system.kill_redis(lambda folder: shutil.rmtree(folder / FILES))
    await _rebuilt(system, must=True)


async def copy(system: System, chance: Random, is_short: bool) -> None:
    """Copy the append-only file as it is, and let time pass."""
    folder = system.redis.directory
    await asyncio.to_thread(shutil.rmtree, folder / COPY, ignore_errors=True)
    await asyncio.to_thread(shutil.copytree, folder / FILES, folder / COPY)
    await asyncio.sleep(chance.uniform(*(SHORT_OLDER_S if is_short else OLDER_S)))


async def older(system: System, chance: Random, is_short: bool) -> None:
    """Redis dies, and comes back with the copy."""
    await system.kill_redis(_put_copy)
    await _rebuilt(system)


async def cut(system: System, chance: Random, is_short: bool) -> None:
    """Redis dies, and its newest file lacks its end."""
    await system.kill_redis(_cutter(chance))
    await _rebuilt(system)


async def flush(system: System, chance: Random, is_short: bool) -> None:
    """Somebody empties Redis while it serves."""
    await system.flush()
    await _rebuilt(system, must=True)


def _put_copy(folder: Path) -> None:
    shutil.rmtree(folder / FILES)
    (folder / COPY).rename(folder / FILES)


def _cutter(chance: Random) -> Callable[[Path], None]:
    """Mostly near its end, sometimes anywhere."""

    def cut_newest(folder: Path) -> None:
        files = (folder / FILES).glob("*.incr.aof")
        newest = max(files, key=lambda path: int(path.name.split(".")[-3]))
        size = newest.stat().st_size
        near = chance.random() < NEAR_THE_END
        with newest.open("r+b") as file:
            file.truncate(chance.randrange(max(0, size - NEAR_BYTES) if near else 0, size))

    return cut_newest


async def _rebuilt(system: System, *, must: bool = False) -> None:
    """See that nothing is sold, then do what an operator does."""
    since_s = system.history.now_s()
    await asyncio.sleep(LOOKED_S)
    until_s = system.history.now_s()
    closed = await system.rebuild()
    if must and len(closed) < system.settings.partitions:
        raise StuckError(f"the rebuild found only {len(closed)} partition(s) lost")
    if len(closed) < system.settings.partitions:
        return
    sold = [
        op
        for op in system.history.ops
        if op.outcome == "ok" and not op.is_poll and op.sent_s > since_s and op.answered_s < until_s
    ]
    if sold:
        raise StuckError(f"{len(sold)} writes were acknowledged by a Redis that had to be rebuilt")
