"""A cluster of three masters of which one goes away, comes back, comes back empty, or loses a partition."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.crc import key_slot

from engine import limits
from engine.booking.book import Request, Seeker, book
from engine.bootstrap import Probe, open_engine
from engine.domain.course import Kind
from engine.errors import OutcomeUnknown, PartitionClosed, PartitionLost, RebuildFailed
from engine.outbox.certify import certify
from engine.outbox.standing import Standing
from engine.redis.nodes import Nodes, open_nodes
from engine.servers.cluster import ClusterNode, ClusterServers
from engine.servers.data_dir import DataDir
from engine.settings import Settings
from tests.client import client_of
from tests.deployment import LOCATIONS, Deployment, new_op, until
from tests.integration.masters import (
    EVERYTHING,
    KEYSPACE,
    SPREAD,
    closed,
    hung,
    is_open,
    kill,
    location_of,
    partitions_of,
    persisting,
    person_of,
    rebuild,
)
from tests.integration.test_sweep import sweep_of
from tests.world import person_key

# Ten rounds of a persister. With one wait for the master in each of them it would be a minute.
HUNG_S_MAX = 25.0


@pytest.fixture(scope="module")
def servers() -> Iterator[ClusterServers]:
    """A cluster of its own, two partitions on each master."""
    with DataDir.make_temporary() as data, ClusterServers(data, spread=SPREAD) as cluster:
        yield cluster


@pytest.fixture
async def six(
    servers: ClusterServers, database_url: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployment]:
    monkeypatch.setattr(limits, "OPERATION_MS_MAX", 200)
    monkeypatch.setattr(limits, "REBUILD_WAIT_S_MAX", 0.5)
    with client_of(servers.url) as client:
        client.flushall()
    async with Deployment(servers.url, database_url, KEYSPACE.partitions) as deployment:
        yield deployment


@asynccontextmanager
async def away(servers: ClusterServers, node: ClusterNode) -> AsyncIterator[None]:
    """Killed, and there again afterwards, with what is in its directory then."""
    await kill(node)
    try:
        yield
    finally:
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(servers.form)


async def are_persisted(deployment: Deployment, partitions: set[int]) -> bool:
    return all([await deployment.watermark(p) == await deployment.end(p) for p in partitions])


async def claimed(deployment: Deployment, person: int, number: int) -> Any:
    """Claim for a person; the take that is to follow."""
    await deployment.register(person)
    seeker = Seeker(person_key(person), Kind.PRIMARY, deployment.wishes(number, (1, 1)))
    steps = book(Request(new_op(), number, (seeker,)), deployment.placement)
    claim = next(steps)
    return steps.send(await deployment.batcher.put(claim.partition, claim.record))


def settings_of(deployment: Deployment, folder: Path) -> Settings:
    return Settings(deployment.redis_url, deployment.database_url, folder / "secrets", KEYSPACE.partitions)


@pytest.mark.parametrize("which", [0, 2], ids=["the-first-seed", "the-last"])
async def test_a_master_that_is_away_takes_its_own_partitions_along_only(
    six: Deployment, servers: ClusterServers, tmp_path: Path, which: int
) -> None:
    node = servers.nodes[which]
    lost = partitions_of(six, node)
    others = EVERYTHING - lost
    async with persisting(six) as working:
        for number in range(1, LOCATIONS + 1):
            await six.booked(number, number)
        await until(six.is_persisted, working)
        waiting = person_of(lost, 100)
        take = await claimed(six, waiting, location_of(others))
        async with away(servers, node):
            halfway = person_of(others, 200)
            with pytest.raises((OutcomeUnknown, PartitionClosed)):
                await six.book(halfway, location_of(lost))
            with pytest.raises((OutcomeUnknown, PartitionClosed)):
                await six.book(person_of(lost, 200), location_of(others))
            assert (await six.batcher.put(take.partition, take.record))[:1] == b"B"
            elsewhere = others - {take.partition}
            later = await six.booked(person_of(elsewhere, 300), location_of(elsewhere), (1, 1))
            await until(lambda: are_persisted(six, elsewhere), working)
            has = "select count(*) from course where person_key = $1"
            assert await six.pool.fetchval(has, later.id.person.hex()) == 1
            assert await six.pool.fetchval(has, person_key(waiting).hex()) == 0
            assert set(await told_closed(six, six.nodes)) == lost
            async with open_engine(settings_of(six, tmp_path)) as engine:
                words = await engine.probe.closed()
                assert set(words) == lost
                assert all("does not answer" in why or "takes no" in why for why in words.values()), words
                assert not engine.follower.is_loaded
        await until(lambda: is_open(six), working)
        await six.booked(halfway, location_of(lost), (1, 1))
        await until(six.is_persisted, working)
        assert await six.pool.fetchval(has, person_key(waiting).hex()) == 1
    assert await six.rows("select reason from quarantine") == []
    assert (await six.audit()).is_clean


async def test_a_master_that_hangs_holds_up_no_other(six: Deployment, servers: ClusterServers) -> None:
    node = servers.nodes[0]
    others = EVERYTHING - partitions_of(six, node)
    async with persisting(six) as working:
        await six.booked(1, 1)
        await until(six.is_persisted, working)
        async with hung(node), asyncio.timeout(HUNG_S_MAX):
            for _ in range(10):
                course = await six.booked(person_of(others, 10), location_of(others))
                await until(lambda: are_persisted(six, others), working)
                await six.cancelled(course)
        await until(lambda: is_open(six), working)
        await until(six.is_persisted, working)
    assert (await six.audit()).is_clean


async def test_claims_are_swept_though_a_master_is_away(six: Deployment, servers: ClusterServers) -> None:
    node = servers.nodes[0]
    lost = partitions_of(six, node)
    others = EVERYTHING - lost
    for person, partitions in ((1, others), (30, lost)):
        number = location_of(partitions)
        elsewhere = others - {KEYSPACE.of_location(number)}
        await claimed(six, person_of(elsewhere, person), number)
    sweep = sweep_of(six)
    async with away(servers, node):
        assert [await sweep.once(), await sweep.once()] == [0, 1]
    assert not (await certify(six.pool, six.nodes)).doubts
    await six.nodes.refresh()
    assert await sweep.once() == 1
    await six.persist()
    assert (await six.audit()).is_clean


async def told_closed(deployment: Deployment, nodes: Nodes) -> dict[int, str]:
    """What a process says that asks now for the first time."""
    standing = Standing(deployment.database_url, nodes)
    await standing.refresh()
    await standing.close()
    return await Probe(nodes, standing).closed()


def forget(node: ClusterNode) -> None:
    """Take its data away; it keeps its identity and its slots."""
    for folder in node.directory.glob("appendonly*"):
        shutil.rmtree(folder)


async def test_a_master_that_comes_back_empty_is_closed_until_it_is_rebuilt(
    six: Deployment, servers: ClusterServers
) -> None:
    node, other = servers.nodes[1], servers.nodes[0]
    lost = partitions_of(six, node)
    async with persisting(six) as working:
        courses = [await six.booked(n, (n - 1) % LOCATIONS + 1, (n % 2, n % 2)) for n in range(1, 17)]
        await until(six.is_persisted, working)
        async with away(servers, node):
            forget(node)
        await six.booked(person_of(EVERYTHING - lost, 200), location_of(EVERYTHING - lost))
        await until(lambda: are_persisted(six, EVERYTHING - lost), working)
        assert await closed(six) == lost
        assert set(await told_closed(six, six.nodes)) == lost
        async with away(servers, other):
            with pytest.raises(RebuildFailed, match="does not answer: start it first"):
                await rebuild(six)
            with pytest.raises(PartitionLost, match="does not answer"):
                await six.found()
        await until(lambda: only_closed(six, lost), working)
        assert await rebuild(six) == dict.fromkeys(lost, 2)
        await until(lambda: is_open(six), working)
        for course in courses[::2]:
            await six.cancelled(course)
        await until(six.is_persisted, working)
    assert (await six.audit()).is_clean


async def only_closed(deployment: Deployment, partitions: set[int]) -> bool:
    return await closed(deployment) == partitions


async def test_a_partition_that_has_moved_is_closed_until_its_new_master_is_certified(
    six: Deployment, servers: ClusterServers
) -> None:
    course = await six.booked(1, 1)
    await six.persist()
    partition = six.keyspace.of_location(course.location)
    before = six.nodes.of(partition)
    await move(six, servers, partition)
    with pytest.raises(PartitionClosed, match="Moved"):
        await six.cancelled(course)
    await six.nodes.refresh()
    assert six.nodes.of(partition) is not before
    with pytest.raises(PartitionClosed, match="UNCERTIFIED"):
        await six.cancelled(course)
    assert await closed(six) == {partition}
    assert await six.watermark(partition) == await six.end(partition)
    assert not (await certify(six.pool, six.nodes)).doubts
    await six.cancelled(course)
    await six.persist()
    assert (await six.audit()).is_clean


async def test_a_node_that_is_cut_off_is_not_believed(six: Deployment, servers: ClusterServers) -> None:
    """It answers that no partition is anywhere."""
    with DataDir.make_temporary() as data:
        lone = ClusterNode(data, "lone", {})
        lone.start()
        try:
            url = f"redis+cluster://{lone.address},{servers.nodes[0].address}"
            async with open_nodes(url, six.keyspace) as nodes:
                assert set(await nodes.run_ids()) == EVERYTHING
        finally:
            lone.stop()


def client_at(node: ClusterNode) -> Any:
    return Redis(unix_socket_path=str(node.socket))


async def move(deployment: Deployment, servers: ClusterServers, partition: int) -> None:
    """Give a partition's slot and keys to another master."""
    slot, prefix = key_slot(deployment.keyspace.prefix(partition)), deployment.keyspace.prefix(partition)
    old = next(n for n in servers.nodes if partition in partitions_of(deployment, n))
    new = next(n for n in servers.nodes if n is not old)
    async with client_at(old) as source, client_at(new) as into:
        ids = [(await client.execute_command("CLUSTER", "MYID")).decode() for client in (source, into)]
        await into.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
        await source.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
        keys = [key async for key in source.scan_iter(prefix + b"*")]
        await source.execute_command("MIGRATE", "127.0.0.1", new.port, "", 0, 5000, "KEYS", *keys)
        for client in (into, source):
            await client.execute_command("CLUSTER", "SETSLOT", slot, "NODE", ids[1])
    await asyncio.to_thread(servers.form)
