"""A running API over a tiny campaign, one for all tests of this folder; each brings people of its own.

``brief`` is another, whose holds end after seconds.
"""

import asyncio
from collections.abc import Iterator

import pytest

from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.campaign import ROOT, Service, open_service

HOLD_S = 3


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


@pytest.fixture(scope="session")
def brief(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """Three partitions; a hold ends after ``HOLD_S`` and can be prolonged once."""
    folder = tmp_path_factory.mktemp("brief")
    campaign = folder / "campaign.toml"
    rules = (ROOT / "config" / "france" / "campaign.toml").read_text()
    for old, new in (
        ("ttl_seconds = 300", f"ttl_seconds = {HOLD_S}"),
        ("extensions_max = 2", "extensions_max = 1"),
    ):
        assert old in rules
        rules = rules.replace(old, new)
    campaign.write_text(rules)
    database = asyncio.run(postgres_server.create_database("service_brief"))
    with DataDir.make_temporary() as data, RedisServer(data, name="brief") as redis:
        settings = Settings(redis.url, database, folder / "secrets", 3, campaign=campaign)
        with open_service(settings, folder) as service:
            yield service
