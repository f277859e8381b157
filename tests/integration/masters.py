"""What suites of clusters share: six partitions on masters that are killed, stopped, and looked at."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.domain.course import Kind
from engine.errors import EngineFault
from engine.inventory import codec
from engine.recovery.rebuild import Rebuild
from engine.redis.keyspace import Keyspace
from engine.servers.cluster import ClusterNode
from engine.storage.pool import connect_alone
from tests.deployment import LOCATIONS, Deployment
from tests.world import person_key

KEYSPACE = Keyspace(6)
EVERYTHING = set(range(KEYSPACE.partitions))
# Two partitions on each of three masters.
SPREAD = [KEYSPACE.prefix(partition) for partition in EVERYTHING]
# A call that every open partition answers, and that a closed one refuses.
GUARD = codec.read_guard(bytes(16), Kind.PRIMARY)


def partitions_of(deployment: Deployment, node: ClusterNode) -> set[int]:
    """The partitions that the engine reaches at this node now."""
    groups = deployment.nodes.grouped(EVERYTHING)
    return {p for server, some in groups.items() if server.address.endswith(f":{node.port}") for p in some}


def person_of(partitions: set[int], first: int) -> int:
    """The first person from a number on whose guard is in one of the partitions."""
    return next(n for n in range(first, first + 100) if KEYSPACE.of_person(person_key(n)) in partitions)


def location_of(partitions: set[int]) -> int:
    """The first location in one of the partitions."""
    return next(n for n in range(1, LOCATIONS + 1) if KEYSPACE.of_location(n) in partitions)


async def closed(deployment: Deployment) -> set[int]:
    """Partitions that refuse a call or do not answer it."""
    await deployment.nodes.refresh()
    guards = [deployment.batcher.put(p, GUARD) for p in sorted(EVERYTHING)]
    answers = await asyncio.gather(*guards, return_exceptions=True)
    return {p for p, answer in enumerate(answers) if isinstance(answer, EngineFault)}


async def is_open(deployment: Deployment) -> bool:
    """Whether every partition answers."""
    return not await closed(deployment)


@asynccontextmanager
async def persisting(deployment: Deployment) -> AsyncIterator["asyncio.Task[None]"]:
    """A persister at work."""
    persister = deployment.persister()
    working = asyncio.create_task(persister.run())
    try:
        yield working
    finally:
        persister.stop()
        await working


@asynccontextmanager
async def hung(node: ClusterNode) -> AsyncIterator[None]:
    """Neither dead nor answering."""
    assert node.pid is not None
    os.kill(node.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.pid, signal.SIGCONT)


async def kill(node: ClusterNode) -> None:
    """End it as a power cut would."""
    await asyncio.to_thread(node.kill)
    await asyncio.to_thread(node.stop)


async def rebuild(deployment: Deployment) -> dict[int, int]:
    """Rebuild what is lost; the new epochs."""
    connection = await connect_alone(deployment.database_url)
    try:
        rebuilt = await Rebuild(connection, deployment.nodes, deployment.said.append).run(sorted(EVERYTHING))
    finally:
        await connection.close()
    deployment.epochs |= rebuilt.epochs
    return rebuilt.epochs
