"""The processes of a deployment on one machine: stores, persister, API workers; and where they answer.

Stores that the environment names are used as they are; the others are started here. API workers share one
listening socket: it stays open while one of them restarts, so nobody is refused meanwhile.
"""

import asyncio
from collections.abc import Coroutine
from functools import partial
from typing import Any

import asyncpg
from redis.exceptions import RedisError

from engine.cli import scrape
from engine.cli.display import Outbox
from engine.cli.layout import Layout
from engine.errors import EngineFault, PartitionLost
from engine.recovery.found import found
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.cluster import ClusterServers
from engine.servers.command import Command
from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError, ServerError
from engine.servers.find import DATABASE_URL, REDIS_URL, given_url
from engine.servers.ports import LOOPBACK, Listener, listen
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.servers.supervisor import Supervisor
from engine.settings import Settings, to_environment
from engine.storage.migrate import migrate
from engine.storage.pool import connect_alone

LAG = "dosebook_persist_lag_seconds"
BACKLOG = "dosebook_outbox_backlog_events"
PERSISTER_PORT = 9101


async def start_stores(supervisor: Supervisor, data: DataDir, layout: Layout) -> Settings:
    """Redis and Postgres, side by side; the settings that lead to them."""
    redis_url, database_url = await _together(
        _start_redis(supervisor, data, layout), _start_postgres(supervisor, data)
    )
    return Settings(
        redis_url=redis_url,
        database_url=database_url,
        secrets_dir=data.path / "secrets",
        partitions=layout.partitions,
        acknowledge=layout.acknowledge,
        replicas=layout.replicas,
    )


async def _start_redis(supervisor: Supervisor, data: DataDir, layout: Layout) -> str:
    """The operator's Redis, or ours; its address."""
    given = given_url(REDIS_URL)
    if given:
        return given
    _refuse_other_kind(data, layout)
    if layout.masters == 1:
        return (await supervisor.start(RedisServer(data))).url
    keyspace = Keyspace(layout.partitions)
    cluster = ClusterServers(
        data,
        masters=layout.masters,
        replicas=layout.replicas,
        spread=[keyspace.prefix(partition) for partition in range(layout.partitions)],
    )
    await _together(*(supervisor.start(node) for node in cluster.nodes))
    await asyncio.to_thread(cluster.form)
    return cluster.url


async def _start_postgres(supervisor: Supervisor, data: DataDir) -> str:
    """The operator's Postgres, or ours; its address."""
    return given_url(DATABASE_URL) or (await supervisor.start(PostgresServer(data))).url


def _refuse_other_kind(data: DataDir, layout: Layout) -> None:
    """What one Redis has, a cluster beside it has not, and the other way round."""
    alone, of_a_cluster = (data.path / name for name in ("redis", "redis-1"))
    if layout.masters > 1 and alone.exists():
        raise DataDirError(f"{data.path} has one Redis: leave out --cluster, or choose another --data-dir")
    if layout.masters == 1 and of_a_cluster.exists():
        raise DataDirError(f"{data.path} has a cluster: add --cluster, or choose another --data-dir")


async def prepare_stores(settings: Settings) -> dict[int, int]:
    """Schema and partitions, made or found as they are; the epoch of each partition."""
    try:
        async with open_nodes(settings.redis_url, Keyspace(settings.partitions)) as nodes:
            connection = await connect_alone(settings.database_url)
            try:
                await migrate(connection)
                return await found(connection, nodes)
            finally:
                await connection.close()
    except PartitionLost as lost:
        raise ServerError(f"{lost}. ./dosebook run --rebuild does so before it starts") from lost
    except (OSError, TimeoutError, RedisError, asyncpg.PostgresError, EngineFault) as error:
        raise ServerError(f"the stores cannot be used: {error or type(error).__name__}") from error


class Site:
    """Persister and API of prepared stores. ``api`` is a listening socket."""

    api_module = "api.serve"

    def __init__(self, data: DataDir, settings: Settings, api: Listener) -> None:
        self._data = data
        self._environment = to_environment(settings)
        self._api = api
        self._persister_port = _free_port(PERSISTER_PORT)

    async def start(self, supervisor: Supervisor, workers: int) -> None:
        """All processes, side by side; ready when every worker was."""
        names = ["api"] if workers == 1 else [f"api-{n + 1}" for n in range(workers)]
        children = [self._persister(), *map(self._worker, names)]
        await _together(*(supervisor.start(child) for child in children))

    @property
    def url(self) -> str:
        """Of the API."""
        return self._api.url

    def addresses(self) -> dict[str, str]:
        """What a person may open."""
        return {
            "API": f"{self.url}/v1/availability?postcode=75011",
            "docs": f"{self.url}/schema",
            "health": f"{self.url}/health/ready",
            "metrics": f"{self.url}/metrics",
            "persister": self._persister_metrics,
        }

    async def outbox(self) -> Outbox:
        """What the persister says of its backlog and lag."""
        found = await asyncio.to_thread(scrape.samples, self._persister_metrics)
        if found is None:
            return Outbox()
        p50, p99 = (scrape.quantile(found, LAG, share) for share in (0.5, 0.99))
        return Outbox(
            backlog=scrape.total(found, BACKLOG),
            lag_p50_ms=None if p50 is None else round(p50 * 1000, 1),
            lag_p99_ms=None if p99 is None else round(p99 * 1000, 1),
        )

    @property
    def _persister_metrics(self) -> str:
        return f"http://{LOOPBACK}:{self._persister_port}/metrics"

    def _persister(self) -> Command:
        return Command.module(
            "persister",
            "engine.cli",
            "persister",
            "--metrics-port",
            str(self._persister_port),
            data=self._data,
            env=self._environment,
            ready=partial(scrape.is_ready, self._persister_metrics),
        )

    def _worker(self, name: str) -> Command:
        return Command.module(
            name,
            self.api_module,
            "--fd",
            str(self._api.fd),
            data=self._data,
            env=self._environment,
            fds=[self._api.fd],
            ready=partial(scrape.is_ready, f"{self.url}/health/ready"),
        )


async def _together(*work: Coroutine[Any, Any, Any]) -> list[Any]:
    """All at once, their results; the first fault ends the others and is raised by itself."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except BaseExceptionGroup as faults:
        raise faults.exceptions[0] from None
    return [task.result() for task in tasks]


def _free_port(wanted: int) -> int:
    """A port that was free a moment ago; the persister binds it itself, and again after a restart."""
    listener = listen(wanted)
    listener.close()
    return listener.port
