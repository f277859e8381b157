"""Three masters with a replica each; one dies. What was told is on the new one, or else it was not told."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import pytest

from engine import limits
from engine.booking.outcomes import Booked, Reason, Refused
from engine.domain.course import Course
from engine.errors import EngineFault, OutcomeUnknown, PartitionClosed
from engine.inventory import codec
from engine.servers.cluster import ClusterNode, ClusterServers
from engine.servers.data_dir import DataDir
from tests.deployment import LOCATIONS, Deployment, until
from tests.integration.masters import (
    EVERYTHING,
    GUARD,
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

BOOKERS, TOLD_BEFORE = 4, 24
# A master goes on without its replica, so that it has what the replica has not.
ALONE = {"min-replicas-to-write": "0"}
MakeServers = Callable[..., ClusterServers]


@pytest.fixture
def make_servers() -> Iterator[MakeServers]:
    """A cluster of its own with a replica for each master, two partitions on each."""
    started: list[ClusterServers] = []
    with DataDir.make_temporary() as data:

        def make(**settings: str) -> ClusterServers:
            started.append(ClusterServers(data, replicas=1, spread=SPREAD, settings=settings).start())
            return started[-1]

        yield make
        for servers in started:
            servers.stop()


def replica_of(servers: ClusterServers, master: ClusterNode) -> ClusterNode:
    for node in servers.nodes:
        with node.client() as client:
            told: Any = client.info("replication")
        if told["role"] == "slave" and told["master_port"] == master.port:
            return node
    raise LookupError(f"nobody follows {master.name}")


async def has(deployment: Deployment, course: Course) -> bool:
    """Whether Redis has the course, on the master of now."""
    partition, person = deployment.keyspace.of_location(course.location), course.id.person
    field = codec.COURSE.pack(person, course.id.kind, course.id.generation)
    return bool(
        await deployment.nodes.one(partition, "HEXISTS", deployment.keyspace.bucket(partition, person), field)
    )


class Bookers:
    """Some people after another, each booking once; ``told`` are those who heard that they have a booking."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._people = count(1)
        self.told: list[Course] = []
        self.stopping = False

    async def run(self) -> None:
        await asyncio.gather(*(self._book() for _ in range(BOOKERS)))

    async def has_told(self, courses: int) -> bool:
        return len(self.told) >= courses

    async def _book(self) -> None:
        while not self.stopping:
            person = next(self._people)
            try:
                slots = (person // LOCATIONS % 2,) * 2
                outcome = await self._deployment.book(person, person % LOCATIONS + 1, slots)
            except EngineFault:
                await asyncio.sleep(limits.POLL_S)
                continue
            if isinstance(outcome, Booked):
                self.told.append(outcome.course)
            else:
                assert isinstance(outcome, Refused)
                assert outcome.reason is Reason.FULL


async def test_what_replicas_have_acknowledged_outlives_the_master(
    make_servers: MakeServers, database_url: str, hasty: None
) -> None:
    servers = await asyncio.to_thread(make_servers)
    async with Deployment(servers.url, database_url, KEYSPACE.partitions, replicas=1) as deployment:
        master = servers.nodes[0]
        replica, lost = replica_of(servers, master), partitions_of(deployment, master)
        bookers = Bookers(deployment)
        async with persisting(deployment) as working:
            booking = asyncio.create_task(bookers.run())
            await until(lambda: bookers.has_told(TOLD_BEFORE), working, booking)
            await kill(master)
            await until(lambda: has_taken_over(deployment, replica, lost), working)
            bookers.stopping = True
            await booking
            assert all([await has(deployment, course) for course in bookers.told])
            with pytest.raises(PartitionClosed, match=r"NOREPLICAS|UNCERTIFIED"):
                await deployment.batcher.put(min(lost), GUARD)
            assert await closed(deployment) == lost
            await asyncio.to_thread(master.start)
            await until(lambda: is_open(deployment), working)
            await until(deployment.is_persisted, working)
            told = {(course.id.person, course.id.generation) for course in bookers.told}
            rows = await deployment.rows("select person_key, generation from course where state = 'b'")
            assert told <= {(key.bytes, generation) for key, generation in rows}
            for course in bookers.told[:8]:
                await deployment.cancelled(course)
            await until(deployment.is_persisted, working)
        assert not any("older" in line for line in deployment.said), deployment.said
        report = await deployment.audit()
        assert {figure for figure, number in report.figures.items() if number} <= {"in_doubt"}, report


async def has_taken_over(deployment: Deployment, replica: ClusterNode, partitions: set[int]) -> bool:
    await deployment.nodes.refresh()
    return partitions_of(deployment, replica) == partitions


@asynccontextmanager
async def cut_off(master: ClusterNode, replica: ClusterNode) -> AsyncIterator[None]:
    """The replica hears nothing more of the master, which is killed in the end, and takes over."""
    async with hung(replica):
        with master.client() as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")
        yield
        await kill(master)


async def test_what_replicas_have_not_acknowledged_is_neither_told_nor_committed(
    make_servers: MakeServers, database_url: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAIT_MS_MAX", 300)
    servers = await asyncio.to_thread(make_servers, **ALONE)
    async with Deployment(servers.url, database_url, KEYSPACE.partitions, replicas=1) as deployment:
        master = servers.nodes[0]
        replica, lost = replica_of(servers, master), partitions_of(deployment, master)
        person, number = person_of(EVERYTHING - lost, 1), location_of(lost)
        async with persisting(deployment) as working:
            await deployment.booked(person_of(EVERYTHING - lost, 50), location_of(EVERYTHING - lost))
            await until(deployment.is_persisted, working)
            async with cut_off(master, replica):
                with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
                    await deployment.book(person, number)
                assert await deployment.end(KEYSPACE.of_location(number)) == 0
            await until(lambda: has_taken_over(deployment, replica, lost), working)
            await asyncio.to_thread(master.start)
            await until(lambda: is_open(deployment), working)
            assert await deployment.rows("select count(*) from course") == [(1,)]
            await deployment.booked(person, number)
            await until(deployment.is_persisted, working)
        assert not any("stays closed" in line for line in deployment.said), deployment.said
        assert (await deployment.audit()).is_clean


async def test_the_control_what_only_the_disk_has_is_lost_and_nothing_is_sold_twice(
    make_servers: MakeServers, database_url: str, hasty: None
) -> None:
    """The same with policy `fsync`. What Postgres has comes back by a rebuild, the rest is gone."""
    servers = await asyncio.to_thread(make_servers, **ALONE)
    async with Deployment(servers.url, database_url, KEYSPACE.partitions) as deployment:
        master = servers.nodes[0]
        replica, lost = replica_of(servers, master), partitions_of(deployment, master)
        number = location_of(lost)
        async with cut_off(master, replica):
            committed = await deployment.booked(1, number)
            await deployment.persist()
            only_told = await deployment.booked(2, number)
        async with persisting(deployment) as working:
            await until(lambda: has_taken_over(deployment, replica, lost), working)
            assert not await has(deployment, committed)
            assert not await has(deployment, only_told)
            await until(lambda: only_lacking_closed(deployment, lost), working)
            with pytest.raises(PartitionClosed):
                await deployment.booked(3, number)
            await rebuild(deployment)
            await until(lambda: is_open(deployment), working)
            assert await has(deployment, committed)
            assert not await has(deployment, only_told)
            third = await deployment.booked(3, number)
            assert set(third.appointments).isdisjoint(committed.appointments)
            await until(deployment.is_persisted, working)
        report = await deployment.audit()
        assert {figure for figure, found in report.figures.items() if found} <= {"in_doubt"}, report


async def only_lacking_closed(deployment: Deployment, lost: set[int]) -> bool:
    """Some of the lost partitions stay closed, the others go on."""
    return any("stays closed" in line for line in deployment.said) and bool(
        len(found := await closed(deployment)) > 0 and found <= lost
    )
