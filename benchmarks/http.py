"""The booking route against the no-op route of the same app, in one run.

Redis with ``appendfsync always``, Postgres and the persister run beside one API process; the load comes from
this process over loopback. Rounds of both routes alternate; every booking is another registered person's,
spread over 100 locations, and every answer must be 201. ``cpu_us`` is the API process' own, per request.
"""

import os
import statistics
import uuid
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import asyncpg
import msgspec

from benchmarks.app import BARE_PATH, NOOP_PATH
from benchmarks.load import LoadResult, closed_loop, post
from engine.capacity.open import Inventory, open_sessions
from engine.cli.layout import Layout
from engine.cli.site import Site, prepare_stores, start_stores
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.privacy.references import PersonRef, References
from engine.privacy.secrets import open_secrets
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.ports import listen
from engine.servers.supervisor import Supervisor
from engine.settings import Settings
from engine.storage.pool import connect_pool

CLIENTS = (64, 256)
ROUNDS, REQUESTS = 5, 6_000
LOCATIONS, SLOTS, LINES = 100, 100, 10
PARIS = "Europe/Paris"
BOOKING_PATH = "/v1/bookings"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class RouteFigures(msgspec.Struct, frozen=True):
    """Medians over the rounds."""

    rps: float
    p50_ms: float
    p99_ms: float
    cpu_us: float


class RouteRatio(msgspec.Struct, frozen=True):
    """``rps_ratio`` = booking ÷ no-op; ``cpu_ratio`` = no-op's CPU ÷ booking's, so that 1 is best in both.

    ``bare_…``: the same against the no-op that checks nothing at the door.
    """

    clients: int
    bare: RouteFigures
    noop: RouteFigures
    booking: RouteFigures
    rps_ratio: float
    cpu_ratio: float
    bare_rps_ratio: float
    bare_cpu_ratio: float


async def measure() -> list[RouteRatio]:
    """Start everything, run the rounds, stop everything."""
    with DataDir.make_temporary() as data:
        async with Supervisor(data) as supervisor:
            settings = await start_stores(supervisor, data, Layout())
            pairs = await _open(settings)
            listener = listen(0)
            site = _Site(data, settings, listener)
            await site.start(supervisor, 1)
            pid = next(status.pid for status in supervisor.status() if status.name == "api")
            bodies = _bodies(settings, pairs)
            await _register(settings)
            return [await _ratio(listener.port, pid, clients, bodies) for clients in CLIENTS]
    raise RuntimeError("interrupted")


class _Site(Site):
    """The usual processes, with the no-op route in the API."""

    api_module = "benchmarks.app"


async def _open(settings: Settings) -> list[tuple[int, int]]:
    """Open the locations; (session of dose 1, session of dose 2) of each."""
    epochs = await prepare_stores(settings)
    keyspace = Keyspace(settings.partitions)
    pool = await connect_pool(settings.database_url)
    try:
        async with open_nodes(settings.redis_url, keyspace) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            await open_sessions(pool, Inventory(nodes, batcher), _locations(), _plans())
            await batcher.close()
        rows = await pool.fetch("select array_agg(id order by day) as ids from session group by location")
    finally:
        await pool.close()
    return [(row["ids"][0], row["ids"][1]) for row in rows]


def _locations() -> list[Location]:
    return [
        Location(n, str(n), f"Location {n}", "", "75011", "Paris", "75", "11", 48.8, 2.3 + n / 1000, PARIS)
        for n in range(1, LOCATIONS + 1)
    ]


def _plans() -> Iterator[SessionPlan]:
    mask = bytes(seats.all_free(SLOTS, LINES * 8))
    for location in range(1, LOCATIONS + 1):
        for day in (2, 30):
            on: date = datetime.now(UTC).date() + timedelta(days=day)
            starts_at = datetime.combine(on, time(8), UTC)
            yield SessionPlan(location, "pfizer", on, starts_at, 5, SLOTS, LINES * 8, mask)


def _person(number: int) -> bytes:
    return uuid.uuid5(uuid.NAMESPACE_OID, str(number)).bytes


def _bodies(settings: Settings, pairs: list[tuple[int, int]]) -> list[bytes]:
    """A body per booking of the whole run."""
    references = References(open_secrets(settings.secrets_dir).reference_key)
    people = len(CLIENTS) * ROUNDS * REQUESTS
    return [_body(references, number, *pairs[number % LOCATIONS]) for number in range(people)]


def _body(references: References, number: int, first: int, second: int) -> bytes:
    slot = number // LOCATIONS % SLOTS
    return msgspec.json.encode(
        {
            "person": references.of_person(PersonRef(_person(number))),
            "dose1": {"session": first, "slot": slot},
            "dose2": {"session": second, "slot": slot},
        }
    )


async def _register(settings: Settings) -> None:
    """The people's rows, so that the persister finds everybody registered."""
    connection = await asyncpg.connect(settings.database_url)
    people = ((uuid.UUID(bytes=_person(n)), b"") for n in range(len(CLIENTS) * ROUNDS * REQUESTS))
    try:
        await connection.copy_records_to_table("person", records=people, columns=["person_key", "sealed"])
    finally:
        await connection.close()


async def _ratio(port: int, pid: int | None, clients: int, bodies: list[bytes]) -> RouteRatio:
    bare, noop, booking = [], [], []
    await _round(port, pid, clients, NOOP_PATH, bodies[:REQUESTS])
    for _ in range(ROUNDS):
        round_bodies = [bodies.pop() for _ in range(REQUESTS)]
        bare.append(await _round(port, pid, clients, BARE_PATH, round_bodies))
        noop.append(await _round(port, pid, clients, NOOP_PATH, round_bodies))
        booking.append(await _round(port, pid, clients, BOOKING_PATH, round_bodies))
    least, door, whole = _figures(bare), _figures(noop), _figures(booking)
    return RouteRatio(clients, least, door, whole, *_ratios(door, whole), *_ratios(least, whole))


def _ratios(noop: RouteFigures, booking: RouteFigures) -> tuple[float, float]:
    """By rate and by CPU; 1 is best in both."""
    return round(booking.rps / noop.rps, 3), round(noop.cpu_us / booking.cpu_us, 3)


async def _round(
    port: int, pid: int | None, clients: int, path: str, bodies: list[bytes]
) -> tuple[LoadResult, float]:
    requests = [post(path, body, str(uuid.uuid4())) for body in bodies]
    before = _cpu_s(pid)
    result = await closed_loop(port, clients, requests)
    cpu_us = (_cpu_s(pid) - before) / len(requests) * 1e6
    if result.statuses != {"201": len(requests)}:
        raise RuntimeError(f"{path} answered {result.statuses}; the figure would be a lie")
    return result, cpu_us


def _figures(rounds: list[tuple[LoadResult, float]]) -> RouteFigures:
    def median(values: Iterator[float]) -> float:
        return round(statistics.median(values), 1)

    return RouteFigures(
        rps=median(result.rps for result, _ in rounds),
        p50_ms=median(result.percentile_ms(0.5) for result, _ in rounds),
        p99_ms=median(result.percentile_ms(0.99) for result, _ in rounds),
        cpu_us=median(cpu_us for _, cpu_us in rounds),
    )


def _cpu_s(pid: int | None) -> float:
    """User and system seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def run() -> list[RouteRatio]:
    """Measure on an event loop of its own."""
    import uvloop

    return uvloop.run(measure())
