"""A tiny campaign on real stores, and the API over it as a process of its own.

Four locations. Sessions of vaccine pfizer (21 to 49 days between doses): days 0 to 3 for dose 1, days 30 to
33 for dose 2, eight slots of ten minutes; today's session began long ago. ``Campaign.session`` finds them.
``AMPLE`` has one on day ``LATE`` too, which is late enough for dose 1 that only the last days fit for dose 2.
``LONE`` is far from the others: one session for each dose, two slots, one seat in each.
"""

import asyncio
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import asyncpg
import httpx
import msgspec

from engine.capacity.open import Inventory, open_sessions
from engine.cli.site import prepare_stores
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.domain.course import Wish
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.ports import Listener, listen
from engine.settings import Settings, to_environment
from engine.storage.pool import connect_pool
from tests.servers.processes import wait_until

ROOT = Path(__file__).parent.parent
PARIS, REUNION = "Europe/Paris", "Indian/Reunion"
AMPLE, SMALL, FAR, LONE = 1, 2, 3, 4
LOCATIONS = (
    Location(AMPLE, "a", "Ample", "1 rue A", "75011", "Paris", "75", "Île-de-France", 48.8590, 2.3790, PARIS),
    Location(SMALL, "b", "Small", "2 rue B", "75012", "Paris", "75", "Île-de-France", 48.8400, 2.3880, PARIS),
    Location(FAR, "c", "Far", "3 rue C", "97400", "Saint-Denis", "974", "La Réunion", -20.88, 55.45, REUNION),
    Location(LONE, "d", "Lone", "4 rue D", "69001", "Lyon", "69", "Auvergne", 45.7690, 4.8290, PARIS),
)
LINES = {AMPLE: 12, SMALL: 1, FAR: 3, LONE: 1}
SLOTS, LONE_SLOTS, LATE = 8, 2, 12
_USUAL = (*range(4), *range(30, 34))
DAYS = {AMPLE: (*_USUAL, LATE), SMALL: _USUAL, FAR: _USUAL, LONE: (1, 31)}


class Campaign(msgspec.Struct, frozen=True):
    """The sessions by location and day, counted from today."""

    today: date
    sessions: Mapping[tuple[int, int], int]

    def session(self, location: int, day: int) -> int:
        """Id of the session of that day."""
        return self.sessions[location, day]

    def wishes(self, location: int, slot: int = 0, days: tuple[int, int] = (1, 31)) -> dict[str, Any]:
        """Both doses as the API takes them."""
        first, second = (self.session(location, day) for day in days)
        return {"dose1": {"session": first, "slot": slot}, "dose2": {"session": second, "slot": slot}}


class Service(msgspec.Struct, frozen=True):
    """A running API with its stores. ``http`` speaks to it."""

    url: str
    http: httpx.Client
    settings: Settings
    campaign: Campaign
    processes: dict[str, subprocess.Popen[bytes]]

    def write(self, method: str, path: str, body: Any = None, key: str = "") -> httpx.Response:
        """A write under a key; a new one if none is given."""
        headers = {"Idempotency-Key": key or str(uuid.uuid4())}
        return self.http.request(method, path, json=body, headers=headers)

    def register(self, name: str = "", **more: Any) -> str:
        """A new person's reference; ``more`` are fields of the registration."""
        family_name = name or "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)
        body = {"family_name": family_name, "given_names": "Ana", "birth_date": "1950-01-31", **more}
        return str(self.write("POST", "/v1/persons", body).json()["person"])

    def book(self, person: str, wishes: dict[str, Any], key: str = "") -> httpx.Response:
        """Book for a person."""
        return self.write("POST", "/v1/bookings", {"person": person, **wishes}, key)

    def rows(self, sql: str, *args: Any) -> list[Any]:
        """Rows of Postgres."""
        return asyncio.run(_fetch(self.settings.database_url, sql, *args))


def plans(today: date) -> Iterator[SessionPlan]:
    """The sessions that are opened."""
    for location in LOCATIONS:
        zone = ZoneInfo(location.zone)
        for day in DAYS[location.id]:
            on = today + timedelta(days=day)
            # Today's session began at midnight and is over after 80 minutes, unless it is very early indeed.
            starts_at = datetime.combine(on, time(9) if day else time(), zone).astimezone(UTC)
            lines, slots = LINES[location.id], LONE_SLOTS if location.id == LONE else SLOTS
            mask = bytes(seats.all_free(slots, lines))
            yield SessionPlan(location.id, "pfizer", on, starts_at, 10, slots, lines, mask)


def today_in_paris() -> date:
    """The day from which the campaign counts."""
    return datetime.now(ZoneInfo(PARIS)).date()


async def open_campaign(settings: Settings) -> Campaign:
    """Prepare empty stores and open the sessions."""
    epochs = await prepare_stores(settings)
    keyspace = Keyspace(settings.partitions)
    pool = await connect_pool(settings.database_url)
    today = today_in_paris()
    try:
        async with open_nodes(settings.redis_url, keyspace) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            await open_sessions(pool, Inventory(nodes, batcher), LOCATIONS, plans(today))
            await batcher.close()
        rows = await pool.fetch("select id, location, day from session")
    finally:
        await pool.close()
    return Campaign(today, {(row["location"], (row["day"] - today).days): row["id"] for row in rows})


@contextmanager
def open_service(settings: Settings, folder: Path, *, persister: bool = True) -> Iterator[Service]:
    """The campaign, the API and the persister; stopped with SIGTERM when left."""
    campaign = asyncio.run(open_campaign(settings))
    listener = listen(0)
    with (
        serving(settings, folder, listener, persister=persister) as processes,
        httpx.Client(base_url=listener.url, timeout=15) as http,
    ):
        yield Service(listener.url, http, settings, campaign, processes)


@contextmanager
def serving(
    settings: Settings, folder: Path, listener: Listener, *, persister: bool = True
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """API and persister on prepared stores, ready; stopped with SIGTERM when left."""
    processes = {"api": start_api(settings, folder, listener.fd)}
    if persister:
        processes["persister"] = start_module(settings, folder, "engine.cli", "persister")
    try:
        with httpx.Client(base_url=listener.url, timeout=15) as http:
            wait_until(lambda: _is_ready(http), "the API is ready", 20)
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(15)
        listener.close()


def start_api(settings: Settings, folder: Path, fd: int) -> subprocess.Popen[bytes]:
    """One API process on a listening socket."""
    return start_module(settings, folder, "api.serve", "--fd", str(fd), fds=(fd,))


def start_module(
    settings: Settings, folder: Path, module: str, *arguments: str, fds: tuple[int, ...] = ()
) -> subprocess.Popen[bytes]:
    """A Python module of this tree as a process with these settings."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **to_environment(settings)}
    with (folder / f"{module}.log").open("ab") as log:
        argv = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(argv, env=environment, stdout=log, stderr=log, pass_fds=fds)


def wishes_of(body: dict[str, Any]) -> tuple[Wish, Wish]:
    """The wishes of a request or of an alternative."""
    one, two = body["dose1"], body["dose2"]
    return Wish(1, one["session"], one["slot"]), Wish(2, two["session"], two["slot"])


def _is_ready(http: httpx.Client) -> bool:
    try:
        return http.get("/health/ready").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


async def _fetch(database_url: str, sql: str, *args: Any) -> list[Any]:
    connection = await asyncpg.connect(database_url)
    try:
        return list(await connection.fetch(sql, *args))
    finally:
        await connection.close()
