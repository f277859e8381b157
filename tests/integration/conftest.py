"""Deployments on stores of their own: a database for each, Redis or the cluster emptied before."""

import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from typing import Protocol

import pytest

from engine import limits
from engine.servers.postgres import PostgresServer
from engine.storage.pool import connect_alone
from tests.client import client_of
from tests.deployment import Deployment


class MakeDeployment(Protocol):
    """Sets up a deployment with so many partitions on so many masters."""

    def __call__(self, partitions: int, masters: int = 1) -> Awaitable[Deployment]:
        """One that is founded and open."""
        ...


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits where the wait itself is not what is tested."""
    monkeypatch.setattr(limits, "PERSIST_IDLE_S", 0.02)
    monkeypatch.setattr(limits, "PERSIST_LOCK_S", 0.05)
    monkeypatch.setattr(limits, "PERSIST_REPORT_S", 0.1)
    monkeypatch.setattr(limits, "AUDIT_PAUSE_S", 0.01)
    monkeypatch.setattr(limits, "AUDIT_WAIT_S_MAX", 0.3)


@pytest.fixture(scope="module")
async def module_database(postgres_server: PostgresServer) -> str:
    """The module's own database."""
    return await postgres_server.create_database(f"test_{secrets.token_hex(6)}")


@pytest.fixture
async def database_url(module_database: str) -> str:
    """An empty database."""
    connection = await connect_alone(module_database)
    await connection.execute("drop schema public cascade; create schema public")
    await connection.close()
    return module_database


@pytest.fixture
async def make_deployment(
    request: pytest.FixtureRequest, database_url: str, hasty: None
) -> AsyncIterator[MakeDeployment]:
    """Set up a deployment with so many partitions, on one server or on so many masters."""
    async with AsyncExitStack() as stack:

        async def make(partitions: int, masters: int = 1) -> Deployment:
            url = str(request.getfixturevalue("redis_server" if masters == 1 else "redis_cluster").url)
            with client_of(url) as client:
                client.flushall()
            return await stack.enter_async_context(Deployment(url, database_url, partitions))

        yield make


@pytest.fixture
async def deployment(make_deployment: MakeDeployment) -> Deployment:
    """One partition."""
    return await make_deployment(1)


@pytest.fixture(params=[1, 3], ids=["one-server", "three-masters"])
async def four_partitions(request: pytest.FixtureRequest, make_deployment: MakeDeployment) -> Deployment:
    """Four partitions, on one server and on three masters: person and location mostly live apart."""
    return await make_deployment(4, request.param)
