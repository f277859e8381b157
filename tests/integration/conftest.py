"""Deployments on stores of their own: a database for each, Redis emptied before."""

import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
from redis.asyncio import Redis

from engine import limits
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.storage.pool import connect_alone
from tests.deployment import Deployment

MakeDeployment = Callable[[int], Awaitable[Deployment]]


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
    redis_server: RedisServer, database_url: str, hasty: None
) -> AsyncIterator[MakeDeployment]:
    """Set up a deployment with so many partitions."""
    async with Redis.from_url(redis_server.url, protocol=2) as client:
        await client.flushall()
    async with AsyncExitStack() as stack:
        yield lambda partitions: stack.enter_async_context(
            Deployment(redis_server.url, database_url, partitions)
        )


@pytest.fixture
async def deployment(make_deployment: MakeDeployment) -> Deployment:
    """One partition."""
    return await make_deployment(1)


@pytest.fixture
async def four_partitions(make_deployment: MakeDeployment) -> Deployment:
    """Four partitions: person and location mostly live apart."""
    return await make_deployment(4)
