"""Only a Redis process that was compared with Postgres sells: not an older one, not an empty, not another."""

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from engine.errors import EngineFault, PartitionClosed
from engine.outbox.certify import certify
from engine.outbox.standing import Standing
from engine.recovery.rebuild import Rebuild
from engine.redis.nodes import open_nodes
from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer
from tests.deployment import Deployment, until
from tests.world import person_key

SELLS_AGAIN_S_MAX = 5.0


@pytest.fixture
def server() -> Iterator[RedisServer]:
    """A Redis of its own, to be killed."""
    with DataDir.make_temporary() as data, RedisServer(data) as redis:
        yield redis


@pytest.fixture
async def four(server: RedisServer, database_url: str, hasty: None) -> AsyncIterator[Deployment]:
    async with Deployment(server.url, database_url, 4) as deployment:
        yield deployment


async def restart(server: RedisServer, files: Path | None = None) -> None:
    """Kill it and start it, with these files if they are given."""
    await asyncio.to_thread(server.kill)
    await asyncio.to_thread(server.stop)
    if files is not None:
        shutil.rmtree(server.directory)
        shutil.copytree(files, server.directory)
    await asyncio.to_thread(server.start)


async def closed(deployment: Deployment) -> set[int]:
    """Partitions that refuse a call."""
    found = set()
    for partition in range(deployment.keyspace.partitions):
        try:
            await deployment.batcher.put(partition, b"g" + bytes(17))
        except PartitionClosed:
            found.add(partition)
        except EngineFault:
            await deployment.nodes.of(0).client.connection_pool.disconnect()
            return await closed(deployment)
    return found


async def book_everywhere(deployment: Deployment, first_person: int, slot: int) -> None:
    for number in range(1, 5):
        await deployment.booked(first_person + number, number, (slot, slot))


async def test_a_restarted_redis_sells_nothing_until_it_is_certified(
    four: Deployment, server: RedisServer
) -> None:
    await book_everywhere(four, 0, 0)
    await four.persist()
    await restart(server)
    assert await closed(four) == {0, 1, 2, 3}
    verdict = await certify(four.pool, four.nodes)
    assert not verdict.doubts
    assert await closed(four) == set()
    await book_everywhere(four, 10, 1)


async def test_after_kill_9_it_sells_again_by_itself(four: Deployment, server: RedisServer) -> None:
    running = four.persister()
    working = asyncio.create_task(running.run())
    await book_everywhere(four, 0, 0)
    await until(four.is_persisted, working)
    began = time.monotonic()
    await restart(server)

    async def sells() -> bool:
        return not await closed(four)

    await until(sells, working)
    assert time.monotonic() - began < SELLS_AGAIN_S_MAX
    await book_everywhere(four, 10, 1)
    await until(four.is_persisted, working)
    running.stop()
    await working
    assert (await four.audit()).is_clean


async def test_an_older_redis_stays_closed_where_it_lacks_what_postgres_has(
    four: Deployment, server: RedisServer, tmp_path: Path
) -> None:
    await book_everywhere(four, 0, 0)
    await four.persist()
    shutil.copytree(server.directory, tmp_path / "older")
    await four.booked(20, 2, (1, 1))
    await four.persist()
    await restart(server, tmp_path / "older")
    # Nobody has looked yet: what is sent now is refused all the same.
    assert await closed(four) == {0, 1, 2, 3}
    running = four.persister()
    working = asyncio.create_task(running.run())

    lost = {2, four.keyspace.of_person(person_key(20))}

    async def others_sell() -> bool:
        return await closed(four) == lost

    await until(others_sell, working)
    assert any("partition 2 stays closed" in line and "is older than" in line for line in four.said)
    somebody = next(n for n in range(30, 40) if four.keyspace.of_person(person_key(n)) not in lost)
    await four.booked(somebody, 1, (1, 1))
    assert len(lost) == 2
    assert any("its guards are older" in line for line in four.said)
    async with four.pool.acquire() as connection:
        rebuilt = await Rebuild(connection, four.nodes, four.said.append).run(range(4))
    assert rebuilt.epochs == dict.fromkeys(lost, 2)
    four.epochs |= rebuilt.epochs

    async def sells() -> bool:
        return not await closed(four)

    await until(sells, working)
    assert (await four.audit()).is_clean
    running.stop()
    await working


async def test_another_history_of_the_same_length_stays_closed(four: Deployment, server: RedisServer) -> None:
    await four.booked(1, 1)
    await four.persist()
    await four.pool.execute(
        "update partition set digest = decode(repeat('00', 16), 'hex') where partition = 1"
    )
    await restart(server)
    verdict = await certify(four.pool, four.nodes)
    assert "is another one in Redis than in Postgres" in verdict.doubts[1]
    assert await closed(four) == {1}


async def test_a_copy_without_the_mark_stays_closed(four: Deployment, server: RedisServer) -> None:
    """Its outbox agrees; but Postgres has a course whose claim it may lack."""
    await four.booked(1, 1)
    await four.persist()
    await four.pool.execute("update partition set mark = mark + 1 where partition = 3")
    await restart(server)
    verdict = await certify(four.pool, four.nodes)
    assert "its guards are older than courses in Postgres" in verdict.doubts[3]
    assert await closed(four) == {3}


async def test_an_empty_redis_stays_closed(four: Deployment, server: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    await restart(server, tmp_path / "empty")
    verdict = await certify(four.pool, four.nodes)
    assert set(verdict.doubts) == {0, 1, 2, 3}
    assert await closed(four) == {0, 1, 2, 3}


async def test_what_another_version_has_written_is_rebuilt_once_it_is_drained(four: Deployment) -> None:
    await four.booked(1, 1)
    await four.persist()
    await four.booked(2, 2)
    for partition in range(4):
        await four.client.hdel(four.keyspace.meta(partition), "layout")
    assert await closed(four) == {0, 1, 2, 3}
    async with open_nodes(four.redis_url, four.keyspace) as nodes:
        doubts = (await certify(four.pool, nodes)).doubts
        assert 2 not in doubts, "its last event is not in Postgres yet"
        assert all("another version" in doubts[p] for p in (0, 1, 3))
        await four.persist()
        connection = await four.pool.acquire()
        try:
            rebuilt = await Rebuild(connection, nodes, four.said.append).run(range(4))
        finally:
            await four.pool.release(connection)
    assert set(rebuilt.epochs) == {0, 1, 2, 3}
    four.epochs.update(rebuilt.epochs)
    assert await closed(four) == set()
    assert (await four.audit()).is_clean
    assert await four.pool.fetchval("select count(*) from course") == 2


async def test_what_was_compared_in_one_process_certifies_no_other(
    four: Deployment, server: RedisServer
) -> None:
    before = (await four.nodes.run_ids())[0]
    await restart(server)
    await closed(four)
    with pytest.raises(Exception, match="UNCERTIFIED"):
        await four.client.fcall("dosebook_certify", 1, four.keyspace.outbox(0), 1, before)
    assert await closed(four) == {0, 1, 2, 3}


async def test_a_process_that_reaches_another_redis_than_postgres_means_sells_nothing(
    four: Deployment,
) -> None:
    """The other one is certified by a deployment of its own, so its scripts would sell."""
    standing = Standing(four.database_url, four.nodes)
    await standing.refresh()
    await standing.close()
    assert [standing.of(partition) for partition in range(4)] == [1, 1, 1, 1]
    with DataDir.make_temporary() as data, RedisServer(data) as other:
        async with open_nodes(other.url, four.keyspace) as elsewhere:
            astray = Standing(four.database_url, elsewhere)
            await astray.refresh()
            await astray.close()
    assert [astray.of(partition) for partition in range(4)] == [0, 0, 0, 0]
    assert "we reach Redis process" in astray.doubt(0)


async def test_the_entry_at_the_watermark_is_never_trimmed(
    four: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.limits.OUTBOX_TAIL_EVENTS", 0)
    monkeypatch.setattr("engine.limits.TRIM_EVENTS_MIN", 1)
    for person in range(1, 4):
        await four.booked(person, 1)
        await four.persist()
    assert not (await certify(four.pool, four.nodes)).doubts
