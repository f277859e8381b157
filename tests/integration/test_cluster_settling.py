"""Settlements on a cluster: the master of their guard is lost, or that of their outbox is away meanwhile."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine import limits
from engine.inventory import codec
from engine.outbox import rounds
from engine.outbox.persister import Persister, Stores
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import FAULTS
from engine.servers.cluster import ClusterNode, ClusterServers
from engine.servers.data_dir import DataDir
from tests.client import client_of
from tests.deployment import Deployment, until
from tests.world import person_key

PARTITIONS = 6
SPREAD = [Keyspace(PARTITIONS).prefix(partition) for partition in range(PARTITIONS)]
# The masters alone decide whether to write, so that one goes on after its replica was lost.
UNCAREFUL = {"min-replicas-to-write": "0"}
LOCATION = 1


@pytest.fixture(scope="module")
def servers() -> Iterator[ClusterServers]:
    """Three masters with a replica each, two partitions on each master."""
    with (
        DataDir.make_temporary() as data,
        ClusterServers(data, replicas=1, spread=SPREAD, settings=UNCAREFUL) as cluster,
    ):
        yield cluster


@pytest.fixture(autouse=True)
def empty(servers: ClusterServers, hasty: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAIT_MS_MAX", 500)
    with client_of(servers.url) as client:
        client.flushall()


class Role:
    """What a node says of itself."""

    def __init__(self, node: ClusterNode) -> None:
        with node.client() as client:
            told: Any = client.info("replication")
        self.is_master = told["role"] == "master"
        self.master_port = None if self.is_master else int(told["master_port"])


def master_and_replica(
    servers: ClusterServers, deployment: Deployment, partition: int
) -> tuple[ClusterNode, ClusterNode]:
    port = int(deployment.nodes.of(partition).address.rpartition(":")[2])
    master = next(node for node in servers.nodes if node.port == port)
    return master, next(node for node in servers.nodes if Role(node).master_port == port)


def end(node: ClusterNode) -> None:
    node.kill()
    node.stop()


def replace(servers: ClusterServers, master: ClusterNode, replica: ClusterNode) -> None:
    """The master is lost; its replica comes back with what it had, and is made master."""
    end(master)
    replica.start()
    with replica.client() as client:
        client.execute_command("CLUSTER", "FAILOVER", "TAKEOVER")
    master.start()
    servers.form()


def person_elsewhere(deployment: Deployment, partition: int) -> int:
    """Somebody whose guard is on another master than the partition."""
    nodes, keyspace = deployment.nodes, deployment.keyspace
    return next(
        person
        for person in range(1, 1000)
        if nodes.of(keyspace.of_person(person_key(person))) is not nodes.of(partition)
    )


async def guard_of(deployment: Deployment, person: int) -> bytes:
    """State of the guard; empty while its server is away."""
    key = person_key(person)
    partition = deployment.keyspace.of_person(key)
    try:
        await deployment.nodes.refresh()
        bucket = await deployment.nodes.one(partition, "HGETALL", deployment.keyspace.bucket(partition, key))
    except FAULTS:
        return b""
    return next(bytes(record[:1]) for field, record in bucket.items() if codec.is_guard(field))


async def test_a_settlement_that_no_replica_has_is_told_again(
    servers: ClusterServers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Committed and settled, but only on the master that is lost then."""
    settle = rounds.Rounds._settle
    async with Deployment(servers.url, database_url, PARTITIONS) as deployment:
        person = person_elsewhere(deployment, LOCATION)
        guard = deployment.keyspace.of_person(person_key(person))
        master, replica = master_and_replica(servers, deployment, guard)
        is_settled = asyncio.Event()

        async def settle_alone(self: rounds.Rounds, entries: Any) -> None:
            """The replica dies between the commit and the settlement."""
            entries = list(entries)
            if not is_settled.is_set() and entries:
                await asyncio.to_thread(end, replica)
                await settle(self, entries)
                is_settled.set()
                await asyncio.to_thread(replace, servers, master, replica)
            else:
                await settle(self, entries)

        monkeypatch.setattr(rounds.Rounds, "_settle", settle_alone)
        await deployment.booked(person, LOCATION)
        stores = Stores(servers.url, database_url, deployment.keyspace, 1)
        async with persisting(Persister(stores, deployment.metrics, deployment.said.append)) as working:
            await until(lambda: happened(is_settled), working)
            await until(lambda: has_settled(deployment, person), working)


async def test_what_is_not_settled_waits_for_an_outbox_that_is_away(
    servers: ClusterServers, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Deployment(servers.url, database_url, PARTITIONS) as deployment:
        person = person_elsewhere(deployment, LOCATION)
        master, replica = master_and_replica(servers, deployment, LOCATION)
        is_back = asyncio.Event()
        truly, again = codec.settle, rounds.Rounds._settle_again
        was_away = asyncio.Event()

        async def noted(self: rounds.Rounds) -> None:
            await again(self)
            if LOCATION not in self._run_ids:
                was_away.set()

        def while_away(course: Any) -> bytes:
            return truly(course) if is_back.is_set() else b"?"

        monkeypatch.setattr(codec, "settle", while_away)
        monkeypatch.setattr(rounds.Rounds, "_settle_again", noted)
        await deployment.booked(person, LOCATION)

        async with persisting(deployment.persister()) as working:
            await until(deployment.is_persisted, working)
            for node in (replica, master):
                await asyncio.to_thread(end, node)
            await until(lambda: happened(was_away), working)
            is_back.set()
            for node in (master, replica):
                await asyncio.to_thread(node.start)
            await asyncio.to_thread(servers.form)
            await until(lambda: has_settled(deployment, person), working)


@asynccontextmanager
async def persisting(persister: Persister) -> AsyncIterator["asyncio.Task[None]"]:
    working = asyncio.create_task(persister.run())
    try:
        yield working
    finally:
        persister.stop()
        await working


async def happened(event: asyncio.Event) -> bool:
    return event.is_set()


async def has_settled(deployment: Deployment, person: int) -> bool:
    return await guard_of(deployment, person) == b"b"
