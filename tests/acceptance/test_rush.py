"""20,000 people want one session of 500 seats over HTTP, with ample second doses."""

import asyncio
import random
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from engine.capacity.open import Inventory, open_sessions
from engine.cli.audit import audit
from engine.cli.site import prepare_stores
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.privacy.references import PersonRef, References
from engine.privacy.secrets import open_secrets
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.ports import listen
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from engine.storage.pool import connect_pool
from loadtests.http import Client, Reply
from tests.campaign import PARIS, serving

PEOPLE, SLOTS, LINES, AMPLE_LINES = 20_000, 100, 5, 100
RUSHED, ELSEWHERE = 1, 2
LOCATIONS = tuple(
    Location(n, str(n), name, "1 rue A", "75011", "Paris", "75", "11", 48.859, 2.379 + n / 100, PARIS)
    for n, name in ((RUSHED, "Rushed"), (ELSEWHERE, "Elsewhere"))
)
OPEN = {
    (RUSHED, 2): LINES,
    (RUSHED, 32): AMPLE_LINES,
    (ELSEWHERE, 2): AMPLE_LINES,
    (ELSEWHERE, 32): AMPLE_LINES,
}


def plans() -> Iterator[SessionPlan]:
    """500 seats for dose 1 where the rush is, plenty of everything else."""
    for (location, day), lines in OPEN.items():
        on = datetime.now(UTC).date() + timedelta(days=day)
        mask = bytes(seats.all_free(SLOTS, lines))
        yield SessionPlan(location, "pfizer", on, datetime.combine(on, time(7), UTC), 5, SLOTS, lines, mask)


async def prepare(settings: Settings, people: list[bytes]) -> tuple[int, int]:
    """Open the sessions and register everybody; the rushed location's session of each dose."""
    epochs = await prepare_stores(settings)
    keyspace = Keyspace(settings.partitions)
    pool = await connect_pool(settings.database_url)
    try:
        async with open_nodes(settings.redis_url, keyspace) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            await open_sessions(pool, Inventory(nodes, batcher), LOCATIONS, plans())
            await batcher.close()
        records = [(uuid.UUID(bytes=person), b"") for person in people]
        async with pool.acquire() as connection:
            await connection.copy_records_to_table(
                "person", records=records, columns=["person_key", "sealed"]
            )
        rows = await pool.fetch("select id from session where location = $1 order by day", RUSHED)
    finally:
        await pool.close()
    return rows[0]["id"], rows[1]["id"]


async def rush(url: str, references: list[str], sessions: tuple[int, int]) -> tuple[list[Any], list[Any]]:
    """Everybody at once; refused, they try what the refusal names as long as it is in this session."""
    client, chance = Client(url, connections_max=256, deadline_s=30), random.Random(3)
    in_line = asyncio.Semaphore(256)

    async def wish(person: str, slots: tuple[int, int]) -> Reply:
        doses = {f"dose{n + 1}": {"session": sessions[n], "slot": slots[n]} for n in (0, 1)}
        body = msgspec.json.encode({"person": person, **doses})
        return await client.request(b"POST", "/v1/bookings", body, key=str(uuid.uuid4()))

    async def citizen(person: str) -> Reply:
        slots = (chance.randrange(SLOTS), chance.randrange(SLOTS))
        async with in_line:
            while True:
                reply = await wish(person, slots)
                here = [] if reply.status != 409 else _here(reply.json()["alternatives"], sessions)
                if not here:
                    return reply
                slots = chance.choice(here)

    try:
        replies = await asyncio.gather(*(citizen(person) for person in references))
    finally:
        await client.close()
    return (
        [reply.json() for reply in replies if reply.status == 201],
        [reply.json() for reply in replies if reply.status != 201],
    )


def _here(alternatives: list[Any], sessions: tuple[int, int]) -> list[tuple[int, int]]:
    pairs = ((one["dose1"], one["dose2"]) for one in alternatives)
    return [(a["slot"], b["slot"]) for a, b in pairs if (a["session"], b["session"]) == sessions]


async def rows_of(url: str, sessions: tuple[int, int]) -> list[Any]:
    connection = await asyncpg.connect(url)
    try:
        sql = "select person_key, dose, session, slot, seat from appointment where live and session = any($1)"
        return list(await connection.fetch(sql, list(sessions)))
    finally:
        await connection.close()


@pytest.mark.timeout(180)
def test_exactly_500_of_20000_are_booked(postgres_server: PostgresServer, tmp_path: Path) -> None:
    database = asyncio.run(postgres_server.create_database("rush"))
    with DataDir.make_temporary() as data, RedisServer(data) as redis:
        settings = Settings(redis.url, database, tmp_path / "secrets")
        people = [uuid.uuid5(uuid.NAMESPACE_OID, str(n)).bytes for n in range(PEOPLE)]
        sign = References(open_secrets(settings.secrets_dir).reference_key).of_person
        sessions = asyncio.run(prepare(settings, people))
        listener = listen(0)
        with serving(settings, tmp_path, listener):
            references = [sign(PersonRef(person)) for person in people]
            booked, refused = asyncio.run(rush(listener.url, references, sessions))
            report = asyncio.run(audit(settings, [], print))
        rows = asyncio.run(rows_of(database, sessions))

    assert len(booked) == SLOTS * LINES
    assert Counter(problem["type"].rpartition(":")[2] for problem in refused) == {"slot-full": PEOPLE - 500}
    assert all(problem["alternatives"] for problem in refused), "a refusal that names nothing else"
    told = {(a["session"], a["slot"], a["seat"]) for booking in booked for a in booking["appointments"]}
    assert len(told) == 2 * SLOTS * LINES
    assert {(row["session"], row["slot"], row["seat"]) for row in rows} == told
    doses = Counter(row["person_key"] for row in rows)
    assert set(doses.values()) == {2}
    assert len(doses) == SLOTS * LINES
    assert report.is_clean, report.first
