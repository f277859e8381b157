"""A running API over a tiny campaign, one for all tests of this folder; each brings people of its own."""

import asyncio
from collections.abc import Iterator

import pytest

from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.campaign import Service, open_service


@pytest.fixture(scope="session", params=[1, 3], ids=["one-partition", "three-partitions"])
def service(
    request: pytest.FixtureRequest, postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The API, with persons and locations in one partition, and apart."""
    partitions: int = request.param
    folder = tmp_path_factory.mktemp("service")
    database = asyncio.run(postgres_server.create_database(f"service_{partitions}"))
    with DataDir.make_temporary() as data, RedisServer(data) as redis:
        settings = Settings(redis.url, database, folder / "secrets", partitions)
        with open_service(settings, folder) as service:
            yield service
