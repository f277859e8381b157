"""The stores of a run, under the supervisor, as the options lay them out."""

from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from engine.cli.layout import Layout
from engine.cli.site import start_stores
from engine.redis.keyspace import Keyspace
from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError
from engine.servers.supervisor import Supervisor
from engine.settings import Acknowledge
from tests.client import client_of


@pytest.fixture
def data(monkeypatch: pytest.MonkeyPatch) -> Iterator[DataDir]:
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    with DataDir.make_temporary() as directory:
        yield directory


async def test_a_cluster_spreads_the_partitions_evenly_and_follows_them(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        settings = await start_stores(supervisor, data, Layout(12, 3, 1, Acknowledge.REPLICA))
        assert (settings.partitions, settings.acknowledge, settings.replicas) == (12, Acknowledge.REPLICA, 1)
        assert len(supervisor.status()) == 7
        with client_of(settings.redis_url) as client:
            prefixes = [Keyspace(12).prefix(partition) for partition in range(12)]
            masters = [client.nodes_manager.get_node_from_slot(key_slot(prefix)).name for prefix in prefixes]
            assert sorted(map(masters.count, set(masters))) == [4, 4, 4]
            assert client.set(prefixes[0] + b"word", "written")
    async with Supervisor(data) as supervisor:
        with pytest.raises(DataDirError, match=r"has a cluster: add --cluster, or [^\n]*$"):
            await start_stores(supervisor, data, Layout())


async def test_one_redis_stays_one(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        settings = await start_stores(supervisor, data, Layout(4, acknowledge=Acknowledge.POSTGRES))
        assert settings.redis_url.startswith("unix://")
        assert (settings.partitions, settings.acknowledge, settings.replicas) == (4, Acknowledge.POSTGRES, 0)
    async with Supervisor(data) as supervisor:
        with pytest.raises(DataDirError, match=r"has one Redis: leave out --cluster, or [^\n]*$"):
            await start_stores(supervisor, data, Layout(12, 3))
