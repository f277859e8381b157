"""The batcher against a real Redis: lost replies, callers that leave, closed partitions, bounds."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis import Redis

from engine import limits
from engine.booking.book import book
from engine.booking.drive import start
from engine.booking.outcomes import Booked
from engine.booking.steps import Placement
from engine.domain import seats
from engine.errors import EngineFault, OutcomeUnknown, PartitionClosed, QueueFull, StepFailed
from engine.inventory import codec
from engine.redis.batch import STEP, Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer
from tests.world import EPOCH, Location, World, person_key

TIMEOUT_S = 0.3
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def own_server() -> Iterator[RedisServer]:
    """A server that a test may stop without hurting others."""
    with DataDir.make_temporary() as data, RedisServer(data) as server:
        yield server


@pytest.fixture
def world(own_server: RedisServer) -> Iterator[World]:
    with Redis.from_url(own_server.url, protocol=2) as client:
        yield World(client, 2, (Location(1, 10, 200), Location(2, 10, 200)))


@asynccontextmanager
async def batching(
    server: RedisServer, world: World, epoch: dict[int, int] | None = None
) -> AsyncIterator[Batcher]:
    async with open_nodes(server.url, world.keyspace, timeout_s=TIMEOUT_S) as nodes:
        batcher = Batcher(nodes, lambda partition: (epoch or {}).get(partition, EPOCH))
        yield batcher
        await batcher.close()


def pid_of(world: World) -> int:
    pid: int = world.redis.info("server")["process_id"]
    return pid


async def faults(futures: list["asyncio.Future[bytes]"]) -> list[bytes | BaseException]:
    return await asyncio.gather(*futures, return_exceptions=True)


async def test_a_lost_reply_is_unknown_and_the_same_op_finds_its_answer(
    own_server: RedisServer, world: World
) -> None:
    async with batching(own_server, world) as batcher:
        placement = Placement(world.keyspace, batcher.clocks.not_after)
        requests = [world.request(person, 1 + person % 2, key="k") for person in range(50)]
        # A connection that is there: without one nothing would be sent.
        await batcher.put(0, codec.read_guard(person_key(1), 1))
        os.kill(pid_of(world), signal.SIGSTOP)
        try:
            attempts = [start(book(request, placement), batcher) for request in requests]
            outcomes = await asyncio.gather(*attempts, return_exceptions=True)
        finally:
            os.kill(pid_of_stopped(own_server), signal.SIGCONT)
        assert {type(outcome) for outcome in outcomes} == {OutcomeUnknown}
        again = [await start(book(request, placement), batcher) for request in requests]
        assert all(isinstance(outcome, Booked) for outcome in again)
        for request, outcome in zip(requests, again, strict=True):
            assert isinstance(outcome, Booked)
            assert outcome.course.id.person == request.seekers[0].person
    assert world.free(1) + world.free(2) == 2 * 10 * 200 - 50


async def test_a_call_is_sent_once(tmp_path: Path) -> None:
    """A server that executes and never answers: the caller hears "unknown", and nothing is repeated."""
    calls = 0

    async def execute_and_hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal calls
        try:
            while data := await reader.read(65536):
                if STEP.encode() in data:
                    calls += 1
                    return
                writer.write(b"+OK\r\n" * data.count(b"\r\nCLIENT\r\n"))
        finally:
            writer.close()

    server = await asyncio.start_unix_server(execute_and_hang_up, tmp_path / "s")
    async with open_nodes(f"unix://{tmp_path / 's'}", Keyspace(1), timeout_s=2) as nodes:
        batcher = Batcher(nodes, lambda partition: EPOCH)
        with pytest.raises(OutcomeUnknown):
            await batcher.put(0, codec.read_guard(person_key(1), 1))
        assert calls == 1
        await batcher.close()
    server.close()


async def test_without_a_connection_nothing_is_sent(tmp_path: Path) -> None:
    async with open_nodes(f"unix://{tmp_path / 'nobody'}", Keyspace(1)) as nodes:
        batcher = Batcher(nodes, lambda partition: EPOCH)
        with pytest.raises(PartitionClosed, match="no connection"):
            await batcher.put(0, codec.read_guard(person_key(1), 1))


def pid_of_stopped(server: RedisServer) -> int:
    """The pid without asking the server, which cannot answer."""
    assert server.pid is not None
    return server.pid


async def test_a_caller_that_leaves_shifts_no_reply(own_server: RedisServer, world: World) -> None:
    async with batching(own_server, world) as batcher:
        people = range(300)
        futures = [
            batcher.put(0, codec.claim(person_key(p), 1, world.request(p, 1).op, p, 2**50)) for p in people
        ]
        await asyncio.sleep(0)
        for future in futures[::3]:
            future.cancel()
        await asyncio.gather(*futures, return_exceptions=True)
        answers = await asyncio.gather(*(batcher.put(0, codec.read_guard(person_key(p), 1)) for p in people))
        assert [codec.guard(answer[1:]).location for answer in answers] == list(people)


async def test_a_closed_partition_fails_its_own_operations_only(
    own_server: RedisServer, world: World
) -> None:
    async with batching(own_server, world, {1: EPOCH + 1}) as batcher:
        record = codec.read_guard(person_key(1), 1)
        answers = await faults([batcher.put(partition, record) for partition in (0, 1, 0, 1)])
        assert answers[0] == answers[2] == b"-"
        assert [type(answer) for answer in answers[1::2]] == [PartitionClosed, PartitionClosed]


async def test_a_broken_operation_fails_alone(own_server: RedisServer, world: World) -> None:
    async with batching(own_server, world) as batcher:
        good = codec.read_guard(person_key(1), 1)
        answers = await faults([batcher.put(0, record) for record in (good, b"tshort", good)])
        assert (answers[0], answers[2]) == (b"-", b"-")
        assert isinstance(answers[1], StepFailed)


async def test_large_queues_are_cut_into_batches_in_their_order(
    own_server: RedisServer, world: World
) -> None:
    async with batching(own_server, world) as batcher:
        mask = bytes(seats.all_free(1, 8))
        count = 3 * limits.BATCH_OPS_MAX + 1
        answers = await faults(
            [batcher.put(0, codec.open_session(9000 + n % 200, 1, mask)) for n in range(count)]
        )
        assert answers == [b"+"] * 200 + [b"="] * (count - 200)
        assert (batcher.calls, batcher.operations, batcher.pending) == (4, count, 0)


async def test_a_full_queue_says_so_and_sends_nothing(
    own_server: RedisServer, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "QUEUE_OPS_MAX", 10)
    async with batching(own_server, world) as batcher:
        futures = [batcher.put(0, codec.read_guard(person_key(n), 1)) for n in range(10)]
        with pytest.raises(QueueFull, match="try again"):
            batcher.put(0, codec.read_guard(person_key(11), 1))
        assert await faults(futures) == [b"-"] * 10
        assert not isinstance(
            (await faults([batcher.put(0, codec.read_guard(person_key(1), 1))]))[0], EngineFault
        )
