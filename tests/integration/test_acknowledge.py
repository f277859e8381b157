"""An answer is told when its policy says so: also a repeated one, and a reading.

``fsync`` is what every other suite runs with.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from engine import limits
from engine.booking.book import Request, Seeker, book
from engine.booking.drive import start
from engine.booking.outcomes import Booked
from engine.booking.read import read_course
from engine.booking.steps import Placement
from engine.domain.course import Kind, Op
from engine.errors import OutcomeUnknown
from engine.outbox.persister import Persister, Stores
from engine.outbox.standing import Standing
from engine.redis.acknowledge import Acknowledgement
from engine.redis.batch import Batcher
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.ports import listen
from engine.servers.redis import RedisServer
from engine.storage.queries import query
from tests.deployment import Deployment, until
from tests.world import person_key

PERSON, LOCATION, LOST_S = 1, 1, 0.3
OP = Op(b"thekey--", b"digest--")


def request_of(deployment: Deployment) -> Request:
    seeker = Seeker(person_key(PERSON), Kind.PRIMARY, deployment.wishes(LOCATION))
    return Request(OP, LOCATION, (seeker,))


def ask(deployment: Deployment, batcher: Batcher) -> "asyncio.Future[Any]":
    """The booking, or the same booking again."""
    return start(
        book(request_of(deployment), Placement(deployment.keyspace, batcher.clocks.not_after)), batcher
    )


# Policy `postgres` ------------------------------------------------------------------------------------------


@asynccontextmanager
async def telling_what_postgres_has(deployment: Deployment) -> AsyncIterator[tuple[Batcher, Standing]]:
    standing = Standing(deployment.database_url, deployment.nodes)
    await standing.refresh()
    following = asyncio.create_task(standing.follow())
    batcher = Batcher(deployment.nodes, standing.of, Acknowledgement(committed=standing.committed))
    try:
        yield batcher, standing
    finally:
        await batcher.close()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.mark.parametrize("partitions", [1, 4])
async def test_an_answer_comes_when_postgres_has_the_event(make_deployment: Any, partitions: int) -> None:
    deployment = await make_deployment(partitions)
    await deployment.register(PERSON)
    async with telling_what_postgres_has(deployment) as (batcher, _):
        first, again = ask(deployment, batcher), ask(deployment, batcher)
        await until_event(deployment)
        reading = ask(deployment, batcher)
        await asyncio.sleep(LOST_S)
        assert not any(asking.done() for asking in (first, again, reading))
        await deployment.persist()
        outcomes = await asyncio.gather(first, again, reading)
        assert all(isinstance(outcome, Booked) for outcome in outcomes)
        assert len({outcome.course.appointments for outcome in outcomes}) == 1
        assert await deployment.rows("select count(*) from course") == [(1,)]


async def test_a_reading_tells_nothing_that_postgres_does_not_have(deployment: Deployment) -> None:
    course = await deployment.booked(PERSON, LOCATION)
    async with telling_what_postgres_has(deployment) as (batcher, _):
        placement = Placement(deployment.keyspace, batcher.clocks.not_after)
        reading = start(read_course(course.id, LOCATION, placement), batcher)
        await asyncio.sleep(LOST_S)
        assert not reading.done()
        await deployment.persist()
        assert await reading == course


async def test_an_answer_that_postgres_does_not_have_in_time_is_unknown(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "COMMIT_S_MAX", LOST_S)
    await deployment.register(PERSON)
    async with telling_what_postgres_has(deployment) as (batcher, _):
        with pytest.raises(OutcomeUnknown, match="Postgres does not have it yet"):
            await ask(deployment, batcher)
        assert batcher.pending == 0
        await deployment.persist()
        assert isinstance(await ask(deployment, batcher), Booked)


async def test_an_answer_of_a_partition_that_was_rebuilt_meanwhile_is_unknown(deployment: Deployment) -> None:
    await deployment.register(PERSON)
    async with telling_what_postgres_has(deployment) as (batcher, _):
        asking = ask(deployment, batcher)
        await until_event(deployment)
        await deployment.pool.execute("update partition set epoch = 2, watermark = -1, digest = null")
        with pytest.raises(OutcomeUnknown, match="rebuilt"):
            await asking


async def test_an_event_of_a_process_that_was_replaced_is_unknown(deployment: Deployment) -> None:
    """A Redis that was set back gives the ids of what it lost to other events; Postgres then has those."""
    await deployment.register(PERSON)
    async with telling_what_postgres_has(deployment) as (batcher, _):
        asking = ask(deployment, batcher)
        await until_event(deployment)
        async with deployment.pool.acquire() as connection, connection.transaction():
            await connection.execute("update partition set run_id = repeat('f', 40)")
            moved = ([0], [1], [-1], [0], [bytes(16)])
            assert await connection.fetchval(query("partition.advance"), *moved) == 1
        with pytest.raises(OutcomeUnknown, match="another Redis process"):
            await asking


async def until_event(deployment: Deployment) -> None:
    """Wait until Redis has the booking."""

    async def is_there() -> bool:
        ends = [await deployment.end(partition) for partition in range(deployment.keyspace.partitions)]
        return max(ends) >= 0

    await until(is_there)


# Policy `replica` -------------------------------------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[RedisServer, RedisServer]]:
    """A server and its replica."""
    listener = listen(0)
    listener.close()
    with (
        DataDir.make_temporary() as data,
        RedisServer(data, port=listener.port) as server,
        RedisServer(data, name="replica", settings={"replicaof": f"127.0.0.1 {listener.port}"}) as replica,
    ):
        yield server, replica


@pytest.fixture
async def paired(
    pair: tuple[RedisServer, RedisServer], database_url: str, hasty: None, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Deployment]:
    """A deployment whose Redis has a replica that follows."""
    monkeypatch.setattr(limits, "WAIT_MS_MAX", int(LOST_S * 1000))
    async with Deployment(pair[0].url, database_url, 4) as deployment:

        async def follows() -> bool:
            return len(await deployment.nodes.replicated(range(4), 1)) == 4

        await until(follows)
        yield deployment


@asynccontextmanager
async def stopped(replica: RedisServer) -> AsyncIterator[None]:
    assert replica.pid is not None
    os.kill(replica.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(replica.pid, signal.SIGCONT)


async def test_an_answer_comes_when_the_replica_has_it(
    paired: Deployment, pair: tuple[RedisServer, RedisServer]
) -> None:
    await paired.register(PERSON)
    batcher = Batcher(paired.nodes, paired.epochs.__getitem__, Acknowledgement(replicas=1))
    async with stopped(pair[1]):
        for _ in range(2):
            with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
                await ask(paired, batcher)
    outcome = await ask(paired, batcher)
    assert isinstance(outcome, Booked)
    async with Redis.from_url(pair[1].url, protocol=2) as replica:
        partition = paired.keyspace.of_location(LOCATION)
        assert await replica.hexists(
            paired.keyspace.bucket(partition, person_key(PERSON)),
            person_key(PERSON) + b"\x01" + (1).to_bytes(4, "little"),
        )
    await batcher.close()


async def test_a_repeated_answer_waits_for_what_another_call_wrote(
    paired: Deployment, pair: tuple[RedisServer, RedisServer]
) -> None:
    """The connection that reads has written nothing itself, so a bare WAIT would answer at once."""
    await paired.register(PERSON)
    async with stopped(pair[1]), open_nodes(paired.redis_url, paired.keyspace) as nodes:
        batcher = Batcher(nodes, paired.epochs.__getitem__, Acknowledgement(replicas=1))
        placement = Placement(paired.keyspace, batcher.clocks.not_after)
        outcome = await ask(paired, paired.batcher)
        assert isinstance(outcome, Booked)
        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
            await start(read_course(outcome.course.id, LOCATION, placement), batcher)
        await batcher.close()


async def test_replicas_are_waited_for_though_memory_is_full(
    paired: Deployment, pair: tuple[RedisServer, RedisServer]
) -> None:
    """A write that is refused leaves WAIT nothing to wait for: it counts for the connection's last one."""
    async with open_nodes(paired.redis_url, paired.keyspace) as nodes, stopped(pair[1]):
        course = await paired.booked(PERSON, LOCATION)
        await paired.client.config_set("maxmemory", 1)
        batcher = Batcher(nodes, paired.epochs.__getitem__, Acknowledgement(replicas=1))
        reading = read_course(course.id, LOCATION, Placement(paired.keyspace, batcher.clocks.not_after))
        with pytest.raises(OutcomeUnknown, match="0 of 1 replicas"):
            await start(reading, batcher)
        assert await nodes.replicated(range(4), 1) == set()
        await batcher.close()
    assert await paired.nodes.replicated(range(4), 1) == {0, 1, 2, 3}


async def test_a_refused_write_counts_for_no_replica(paired: Deployment) -> None:
    """WAIT would count the replicas that have what this connection wrote before, which is nothing."""
    await paired.client.config_set("min-replicas-to-write", 2)
    async with open_nodes(paired.redis_url, paired.keyspace) as nodes:
        assert await nodes.replicated(range(4), 1) == set()


async def test_postgres_is_never_ahead_of_the_replica(
    paired: Deployment, pair: tuple[RedisServer, RedisServer]
) -> None:
    await paired.booked(PERSON, LOCATION)
    stores = Stores(paired.redis_url, paired.database_url, paired.keyspace, replicas=1)
    persister = Persister(stores, paired.metrics, paired.said.append)
    async with stopped(pair[1]):
        working = asyncio.create_task(persister.run())
        await until(lambda: is_said(paired, "persisting 4"), working)
        await asyncio.sleep(3 * LOST_S)
        assert await paired.rows("select count(*) from course") == [(0,)]
    await until(paired.is_persisted, working)
    persister.stop()
    await working


async def is_said(deployment: Deployment, words: str) -> bool:
    return any(words in line for line in deployment.said)
