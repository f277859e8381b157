"""Fixtures that every folder shares: real servers, and no way out beyond loopback.

`redis_server`, `redis_cluster` and `postgres_server` are started by engine.servers, once per process (per
xdist worker), when a test first asks for them. Tests that share them keep apart by keys and databases of
their own. `redis_client` is one server's or three masters', as `masters` says.
"""

import ipaddress
import os
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from engine.servers.cluster import ClusterServers
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from tests.client import client_of

NAMES_OF_LOOPBACK = {"localhost", "", None}


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio."""
    return "asyncio"


@pytest.fixture(scope="session")
def server_data() -> Iterator[DataDir]:
    """Temporary data directory of the session's servers."""
    with DataDir.make_temporary() as data:
        yield data


@pytest.fixture(scope="session")
def redis_server(server_data: DataDir) -> Iterator[RedisServer]:
    """A running Redis or Valkey; `.url` is for redis-py. Flush it, or use keys of your own."""
    with RedisServer(server_data) as server:
        yield server


@pytest.fixture(scope="session")
def redis_cluster(server_data: DataDir) -> Iterator[ClusterServers]:
    """A running Redis Cluster of three masters. Flush it, or use keys of your own."""
    with ClusterServers(server_data, name="cluster") as cluster:
        yield cluster


@pytest.fixture
def masters() -> int:
    """How many masters the test's inventory has; parametrize it with 1 and 3 to have both."""
    return 1


@pytest.fixture
def inventory_url(masters: int, request: pytest.FixtureRequest) -> str:
    """Address of the inventory that `redis_client` speaks to: of one server, or of three masters."""
    server = request.getfixturevalue("redis_server" if masters == 1 else "redis_cluster")
    return str(server.url)


@pytest.fixture
def redis_client(inventory_url: str) -> Iterator[Any]:
    """A client of the session's inventory, emptied; answers are bytes, nothing is retried."""
    with client_of(inventory_url) as client:
        client.flushall()
        yield client


@pytest.fixture(scope="session")
def postgres_server(server_data: DataDir) -> Iterator[PostgresServer]:
    """A running PostgreSQL; `await .create_database(name)` gives the URL of a database of your own."""
    with PostgresServer(server_data) as server:
        yield server


def pytest_configure(config: pytest.Config) -> None:
    """Block what leaves this machine, for the whole session."""
    sys.addaudithook(_stay_on_loopback)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the suite that was asked for: tests marked `needs` belong to the extra one."""
    suite = os.environ.get("DOSEBOOK_SUITE", "main")
    if suite == "all":
        return
    left_out = [item for item in items if (item.get_closest_marker("needs") is None) == (suite == "extra")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _stay_on_loopback(event: str, args: tuple[Any, ...]) -> None:
    """Refuse to connect, send or look up beyond loopback. Unix sockets have no host and pass."""
    if event in {"socket.connect", "socket.sendto"} and isinstance(args[1], tuple):
        _refuse_unless_loopback(args[1][0])
    elif event == "socket.getaddrinfo":
        _refuse_unless_loopback(args[0])


def _refuse_unless_loopback(host: str | bytes | None) -> None:
    name = host.decode() if isinstance(host, bytes) else host
    if name in NAMES_OF_LOOPBACK:
        return
    try:
        inside = ipaddress.ip_address(name or "").is_loopback or name in {"0.0.0.0", "::"}  # noqa: S104
    except ValueError:
        inside = False
    if not inside:
        raise PermissionError(f"tests stay on this machine, this one wanted to reach {name}")
