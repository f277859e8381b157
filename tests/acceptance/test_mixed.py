"""20,000 operations of every kind over HTTP, a thousand clients at once, on few seats; then nothing is wrong.

People book, hold, confirm, extend, move, give up a dose or all, alone and as households, twice at once and
once more. What they were told is held against Postgres by a checker that shares no code with the engine
(``tests/faults/checker.py``), and against both stores by the audit.
"""

import asyncio
import os
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import pytest

from engine.capacity.open import Inventory, open_sessions
from engine.cli.audit import audit
from engine.cli.site import prepare_stores
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.privacy.references import PersonRef, References
from engine.privacy.secrets import open_secrets
from engine.recovery.audit import Report
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.ports import listen
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from engine.storage.pool import connect_pool
from tests.campaign import PARIS, serving
from tests.faults.acks import acts_of, write_acks
from tests.faults.checker import EXPIRED, Checked, check
from tests.faults.desk import Desk, Once, Person
from tests.faults.history import History
from tests.faults.rows import read_rows
from tests.faults.writers import Place, Writer
from tests.short_holds import campaign_with_holds

OPERATIONS = int(os.environ.get("DOSEBOOK_MIXED_OPERATIONS", "20000"))
CLIENTS, PEOPLE_EACH, CONNECTIONS, HOLD_S = 1_000, 4, 256, 10
# (slots, lines) of each location: some sell out again and again.
SIZES = {1: (40, 20), 2: (40, 20), 3: (40, 10), 4: (40, 10), 5: (10, 2), 6: (5, 1), 7: (20, 4), 8: (20, 4)}
DAYS = (2, 32)
SETTLED_S_MAX = 30.0
LOAD_S_MAX = 150.0


def locations() -> list[Location]:
    """Eight in a row."""
    return [
        Location(
            n, str(n), f"Place {n}", "1 rue A", "75011", "Paris", "75", "11", 48.86, 2.3 + n / 100, PARIS
        )
        for n in SIZES
    ]


def plans() -> Iterator[SessionPlan]:
    """A session for each dose at each location."""
    for location, (slots, lines) in SIZES.items():
        for day in DAYS:
            on = datetime.now(UTC).date() + timedelta(days=day)
            starts_at = datetime.combine(on, time_of_day(7), UTC)
            mask = bytes(seats.all_free(slots, lines))
            yield SessionPlan(location, "pfizer", on, starts_at, 5, slots, lines, mask)


async def prepare(settings: Settings, keys: list[uuid.UUID]) -> list[Place]:
    """Open the sessions and register everybody."""
    epochs, keyspace = await prepare_stores(settings), Keyspace(settings.partitions)
    pool = await connect_pool(settings.database_url)
    try:
        async with open_nodes(settings.redis_url, keyspace) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            await open_sessions(pool, Inventory(nodes, batcher), locations(), plans())
            await batcher.close()
        async with pool.acquire() as connection:
            await connection.copy_records_to_table(
                "person", records=[(key, b"") for key in keys], columns=["person_key", "sealed"]
            )
        rows = await pool.fetch("select id, location, slots from session order by location, day")
    finally:
        await pool.close()
    return [
        Place(first["location"], (first["id"], second["id"]), first["slots"])
        for first, second in zip(rows[::2], rows[1::2], strict=True)
    ]


async def load(
    url: str, references: References, people: list[Person], places: list[Place], count: int
) -> History:
    """Clients at work until so many operations were sent; then each learns what became of its own."""
    history, stop, chance = History(), asyncio.Event(), Random(7)
    client = Once(url, connections_max=CONNECTIONS, deadline_s=60)
    desk = Desk(client, history, references)
    clients = min(CLIENTS, len(people) // PEOPLE_EACH)
    writers = [
        Writer(desk, people[n::clients], places, Random(chance.random()), stop) for n in range(clients)
    ]
    working = asyncio.gather(*(writer.run() for writer in writers))
    try:
        async with asyncio.timeout(LOAD_S_MAX):
            while len(history.ops) < count:
                await asyncio.sleep(0.02)
            stop.set()
            await working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await client.close()
    return history


async def holds_over(settings: Settings) -> None:
    """Wait until nothing is held any more. Raises ``TimeoutError``."""
    connection = await asyncpg.connect(settings.database_url)
    try:
        async with asyncio.timeout(SETTLED_S_MAX):
            while await connection.fetchval("select count(*) from course where state = 'h'"):
                await asyncio.sleep(0.2)
    finally:
        await connection.close()


async def settled(settings: Settings, acks: Path) -> Report:
    """The audit once everything is persisted, and every hold is over; what is wrong after 30 s stays."""
    deadline = time.monotonic() + SETTLED_S_MAX
    while True:
        report = await audit(settings, [acks], lambda line: None)
        if report.is_clean or time.monotonic() > deadline:
            return report
        await asyncio.sleep(1)


async def judge(settings: Settings, history: History) -> tuple[Checked, int]:
    """The checker's verdict on Postgres' rows, and how many holds ended by time."""
    connection = await asyncpg.connect(settings.database_url)

    async def fetch(sql: str) -> list[Any]:
        return list(await connection.fetch(sql))

    try:
        rows = await read_rows(fetch)
        sizes = {row["id"]: (row["slots"], row["lines"]) for row in await fetch("select * from session")}
        assert not await connection.fetchval("select count(*) from quarantine")
    finally:
        await connection.close()
    return check(history.ops, rows, sizes), sum(c.act == EXPIRED for row in rows for c in row.changes)


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("partitions", "operations"), [(1, OPERATIONS), (4, OPERATIONS // 4)])
def test_a_mixed_rush_leaves_nothing_wrong(
    partitions: int, operations: int, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    database = asyncio.run(postgres_server.create_database(f"mixed_{partitions}"))
    people = min(CLIENTS, operations // 10) * PEOPLE_EACH
    with DataDir.make_temporary() as data, RedisServer(data) as redis:
        campaign = campaign_with_holds(tmp_path, HOLD_S)
        settings = Settings(redis.url, database, tmp_path / "secrets", partitions, campaign=campaign)
        keys = [uuid.uuid5(uuid.NAMESPACE_OID, str(n)) for n in range(people)]
        places = asyncio.run(prepare(settings, keys))
        references = References(open_secrets(settings.secrets_dir).reference_key)
        clients = [Person(key.hex, references.of_person(PersonRef(key.bytes))) for key in keys]
        listener = listen(0)
        with serving(settings, tmp_path, listener):
            began = time.monotonic()
            history = asyncio.run(load(listener.url, references, clients, places, operations))
            seconds = time.monotonic() - began
            write_acks(history.ops, tmp_path / "acks")
            asyncio.run(holds_over(settings))
            # First what is in doubt comes to rest, and Postgres has everything; then the rows are looked at.
            report = asyncio.run(settled(settings, tmp_path / "acks"))
            checked, expired = asyncio.run(judge(settings, history))
    acts = acts_of(history.ops, expired)
    print(f"{len(history.ops):,} operations in {seconds:.1f} s on {partitions} partition(s): {acts}")

    assert not checked.findings, checked.findings[:5]
    assert report.is_clean, report.first
    assert not any(report.figures.values())
    assert {op.outcome for op in history.ops} <= {"ok", "refused", "away", "unknown"}
    assert not [op for op in history.ops if op.words == "internal"]
    assert all(
        acts[act] for act in ("book", "hold", "confirm", "extend", "move", "drop", "cancel", "household")
    )
