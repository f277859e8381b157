"""The one process that drives the waitlist: an owner by an advisory lock on the connection it works with.

Who has lost the connection has lost the lock, and starts over from what Postgres has. Postgres ends the
session of an owner that is silent for ``OWNER_SILENT_MS_MAX``. Two owners for a moment do no harm: every
step is a compare-and-set, and only a hold makes an offer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

from engine import limits
from engine.privacy.seal import Sealer
from engine.storage.pool import FAULTS, LOST_WHEN_SILENT, connect_alone
from engine.storage.queries import query
from engine.waitlist.ledger import Ledger
from engine.waitlist.offers import Offers
from engine.waitlist.rounds import Rounds, Surroundings
from engine.waitlist.wakes import Wakes


class OneConnection:
    """A single connection that is borrowed as from a pool, by one at a time."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        """The connection."""
        async with self._lock:
            yield self._connection

    async def fetch(self, sql: str, *arguments: Any) -> Any:
        """Rows of a statement that stands alone."""
        async with self.acquire() as connection:
            return await connection.fetch(sql, *arguments)

    async def fetchrow(self, sql: str, *arguments: Any) -> Any:
        """The first row of one."""
        async with self.acquire() as connection:
            return await connection.fetchrow(sql, *arguments)

    async def fetchval(self, sql: str, *arguments: Any) -> Any:
        """The first value of one."""
        async with self.acquire() as connection:
            return await connection.fetchval(sql, *arguments)

    async def execute(self, sql: str, *arguments: Any) -> Any:
        """The status of one."""
        async with self.acquire() as connection:
            return await connection.execute(sql, *arguments)


class Worker:
    """One process's worker. ``say`` gets a line whenever something needs to be known."""

    def __init__(
        self,
        database_url: str,
        surroundings: Surroundings,
        sealer: Sealer,
        wakes: Wakes,
        say: Callable[[str], None],
    ) -> None:
        self._database_url = database_url
        self._to = surroundings
        self._sealer = sealer
        self._wakes = wakes
        self._say = say
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Ask for the end: the round under way is finished first."""
        self._stopping.set()

    async def run(self) -> None:
        """Drive the waitlist until stopped, as long as this process owns it."""
        wait_s = limits.RECONNECT_S_MIN
        while not self._stopping.is_set():
            try:
                await self._own()
                wait_s = limits.RECONNECT_S_MIN
            except (*FAULTS, *self._to.faults) as error:
                self._say(f"waitlist: starting over in {wait_s:.1f} s: {type(error).__name__}: {error}")
                await self._rest(wait_s)
                wait_s = min(2 * wait_s, limits.RECONNECT_S_MAX)

    async def _own(self) -> None:
        async with AsyncExitStack() as stack:
            connection = await connect_alone(self._database_url, LOST_WHEN_SILENT)
            stack.push_async_callback(_close, connection)
            if not await self._lock(connection):
                return
            self._say("driving the waitlist")
            pool = OneConnection(connection)
            ledger = Ledger(pool)
            offers = Offers(ledger, self._to.seats, self._sealer, self._to.now)
            rounds = Rounds(pool, self._to, offers, ledger, self._wakes, self._say)
            await rounds.begin()
            await self._go_round(rounds)

    async def _go_round(self, rounds: Rounds) -> None:
        ticked_s = float("-inf")
        while not self._stopping.is_set():
            await rounds.drive()
            woken = await rounds.look()
            if time.monotonic() - ticked_s >= limits.WAITLIST_TICK_S:
                ticked_s = time.monotonic()
                await rounds.tick()
            await self._rest(limits.WAITLIST_PAUSE_S if woken or len(self._wakes) else limits.WAITLIST_IDLE_S)

    async def _lock(self, connection: Any) -> bool:
        told = False
        while not await connection.fetchval(query("waitlist_lot.lock_worker")):
            if not told:
                self._say("the waitlist has another worker: waiting for it to end")
            told = True
            await self._rest(limits.PERSIST_LOCK_S)
            if self._stopping.is_set():
                return False
        return True

    async def _rest(self, seconds: float) -> None:
        with suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)


async def _close(connection: Any) -> None:
    """Close within a bounded time, also when the server is gone."""
    try:
        await connection.close(timeout=limits.RECONNECT_S_MAX)
    except FAULTS:
        connection.terminate()
