"""Opens planned sessions: rows in Postgres first, then the stock of every row in Redis.

Idempotent, and completed by running it again after a crash: rows that are there stay as they are, and Redis
gets the stock of whatever row it has no stock for, as Postgres has it. A stock that is there is never
touched, so opening twice gives no sold seat back. A partition that has lost its data is closed by its
epoch, and refuses.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine import limits
from engine.domain.capacity import Location, SessionPlan
from engine.domain.seats import width_of
from engine.inventory import codec
from engine.redis.batch import Batcher
from engine.redis.nodes import Nodes
from engine.storage.pool import rows_of
from engine.storage.queries import query

if TYPE_CHECKING:
    import asyncio

OPENED = b"+"
Progress = Callable[[int, int], None]


class Opened(msgspec.Struct, frozen=True):
    """What one run did: rows written, stocks opened, and the sessions that there are now in all."""

    locations: int
    sessions: int
    stocks: int
    total: int


async def open_sessions(
    pool: Any,
    inventory: "Inventory",
    locations: Iterable[Location],
    plans: Iterable[SessionPlan],
    progress: Progress = lambda done, total: None,
) -> Opened:
    """Open what is planned, and what an earlier run left unfinished. ``progress`` counts stocks.

    Raises ``PartitionClosed`` where Redis is not the one that Postgres knows; nothing is given back.
    """
    async with pool.acquire() as connection:
        new_locations, new_sessions = await _insert(connection, locations, plans)
        places = [tuple(row) for row in await connection.fetch(query("session.places"))]
        missing = await inventory.missing(places)
        stocks = await _open_stocks(connection, inventory, missing, progress)
    return Opened(new_locations, new_sessions, stocks, len(places))


class Inventory:
    """The stocks in Redis, as far as opening needs them. ``nodes`` read, ``batcher`` writes."""

    def __init__(self, nodes: Nodes, batcher: Batcher) -> None:
        self._nodes = nodes
        self._batcher = batcher
        self._keyspace = nodes.keyspace

    async def missing(self, places: Iterable[tuple[int, int]]) -> list[int]:
        """Those of the sessions, given as ``(session, location)``, that may have no stock.

        Counted by the chunk: a session that has one may be among them, and is left as it is when opened.
        """
        chunks = self._chunks(places)
        session_at = self._keyspace.session
        counts = await self._nodes.ask(
            [(p, ("EXISTS", *(session_at(p, session) for session in sessions))) for p, sessions in chunks]
        )
        return [
            s for (_, sessions), n in zip(chunks, counts, strict=True) if n < len(sessions) for s in sessions
        ]

    async def open(self, rows: Iterable[Any]) -> int:
        """Open the stocks of rows (id, location, lines, seats); how many were not open before."""
        futures = [self._open(row) for row in rows]
        return sum([await future == OPENED for future in futures])

    def _chunks(self, places: Iterable[tuple[int, int]]) -> list[tuple[int, list[int]]]:
        """Sessions by partition, ``EXISTS_KEYS_MAX`` at a time."""
        found: defaultdict[int, list[int]] = defaultdict(list)
        for session, location in places:
            found[self._keyspace.of_location(location)].append(session)
        size = limits.EXISTS_KEYS_MAX
        return [(p, of[at : at + size]) for p, of in found.items() for at in range(0, len(of), size)]

    def _open(self, row: Any) -> "asyncio.Future[bytes]":
        record = codec.open_session(row["id"], width_of(row["lines"]), row["seats"])
        return self._batcher.put(self._keyspace.of_location(row["location"]), record)


async def _insert(
    connection: Any, locations: Iterable[Location], plans: Iterable[SessionPlan]
) -> tuple[int, int]:
    """Write the rows that are not there yet, all or none; how many locations and sessions were new."""
    await connection.execute(query("location.create_planned"))
    await connection.execute(query("session.create_planned"))
    async with connection.transaction():
        rows: Iterable[tuple[Any, ...]] = map(msgspec.structs.astuple, locations)
        await connection.copy_records_to_table("planned_location", records=rows)
        new_locations = rows_of(await connection.execute(query("location.insert_planned")))
        rows = map(msgspec.structs.astuple, plans)
        await connection.copy_records_to_table("planned_session", records=rows)
        await connection.execute(query("session.analyze_planned"))
        new_sessions = rows_of(await connection.execute(query("session.insert_planned")))
    return new_locations, new_sessions


async def _open_stocks(
    connection: Any, inventory: Inventory, missing: Sequence[int], progress: Progress
) -> int:
    opened, size = 0, limits.OPEN_SESSIONS_MAX
    progress(0, len(missing))
    for at in range(0, len(missing), size):
        rows = await connection.fetch(query("session.stocks"), missing[at : at + size])
        opened += await inventory.open(rows)
        progress(min(at + size, len(missing)), len(missing))
    return opened
