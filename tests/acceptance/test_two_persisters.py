"""Two persisters, one deployment: the second waits, and takes over from one that is dead or stopped."""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.campaign import start_module
from tests.deployment import Deployment

WAITED_S_MAX = 30.0
Start = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
async def deployment(
    redis_client: Redis, redis_server: RedisServer, postgres_server: PostgresServer
) -> AsyncIterator[Deployment]:
    """One partition, empty stores."""
    database_url = await postgres_server.create_database(f"two_{time.monotonic_ns()}")
    async with Deployment(redis_server.url, database_url, 1) as deployment:
        yield deployment


@pytest.fixture
def start(deployment: Deployment, tmp_path: Path) -> Iterator[Start]:
    """Starts a persister that logs below its name; all of them are ended."""
    processes: list[subprocess.Popen[bytes]] = []
    settings = Settings(deployment.redis_url, deployment.database_url, tmp_path / "secrets")

    def started(name: str) -> subprocess.Popen[bytes]:
        (tmp_path / name).mkdir()
        processes.append(start_module(settings, tmp_path / name, "engine.cli", "persister"))
        return processes[-1]

    yield started
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGCONT)
        process.terminate()
        process.wait(15)


async def said(folder: Path, words: str) -> None:
    log = folder / "engine.cli.log"
    async with asyncio.timeout(WAITED_S_MAX):
        while words not in (await asyncio.to_thread(log.read_text) if log.exists() else ""):
            await asyncio.sleep(0.02)


async def persisted(deployment: Deployment) -> None:
    async with asyncio.timeout(WAITED_S_MAX):
        while not await deployment.is_persisted():
            await asyncio.sleep(0.02)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
async def test_an_owner_that_is_gone_is_replaced(
    deployment: Deployment, start: Start, tmp_path: Path, fault: signal.Signals
) -> None:
    first = start("first")
    await said(tmp_path / "first", "persisting 1 partition")
    start("second")
    await said(tmp_path / "second", "has another persister")
    await deployment.booked(1, 1)
    await persisted(deployment)
    os.kill(first.pid, fault)
    await deployment.booked(2, 2)
    await persisted(deployment)
    if fault is signal.SIGSTOP:
        os.kill(first.pid, signal.SIGCONT)
        await said(tmp_path / "first", "has another persister")
    await deployment.booked(3, 3)
    await persisted(deployment)
    assert (await deployment.audit()).is_clean
    assert await deployment.rows("select count(*) from course") == [(3,)]
