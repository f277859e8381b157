"""The supervisor inside an event loop: restarts, giving up, status."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Iterator

import asyncpg
import pytest
from redis.asyncio import Redis

from engine.servers import supervisor as supervisor_module
from engine.servers.command import Command
from engine.servers.data_dir import DataDir
from engine.servers.errors import ServerFailedError
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.servers.supervisor import Event, State, Supervisor


@pytest.fixture
def data() -> Iterator[DataDir]:
    with DataDir.make_temporary() as directory:
        yield directory


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(15):
        while not condition():
            await asyncio.sleep(0.01)


async def test_killed_servers_come_back_with_their_data(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        redis = await supervisor.start(RedisServer(data))
        postgres = await supervisor.start(PostgresServer(data))
        await store(redis.url, postgres.url)
        for server in (redis, postgres):
            assert server.pid is not None
            os.kill(server.pid, signal.SIGKILL)
        await eventually(lambda: [s.restarts for s in supervisor.status()] == [1, 1])
        await eventually(lambda: {s.state for s in supervisor.status()} == {State.RUNNING})
        assert await stored(redis.url, postgres.url) == (b"kept", "kept")
    assert {s.state for s in supervisor.status()} == {State.STOPPED}
    assert {s.pid for s in supervisor.status()} == {None}


async def store(redis_url: str, postgres_url: str) -> None:
    client = Redis.from_url(redis_url)
    await client.set("word", "kept")
    await client.aclose()
    connection = await asyncpg.connect(postgres_url)
    await connection.execute("CREATE TABLE words AS SELECT 'kept' AS word")
    await connection.close()


async def stored(redis_url: str, postgres_url: str) -> tuple[object, object]:
    client = Redis.from_url(redis_url)
    connection = await asyncpg.connect(postgres_url)
    words = await client.get("word"), await connection.fetchval("SELECT word FROM words")
    await client.aclose()
    await connection.close()
    return words


# Runs once, then ends at every start with a word in its log.
BROKEN = """
import pathlib, sys, time
if pathlib.Path("{mark}").exists():
    print("no luck")
    raise SystemExit(3)
pathlib.Path("{mark}").touch()
time.sleep(0.3)
"""


async def test_child_that_keeps_ending_is_given_up(data: DataDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MIN", 0.001)
    events: list[Event] = []
    program = BROKEN.format(mark=data.path / "mark")
    async with Supervisor(data, on_event=events.append) as supervisor:
        await supervisor.start(Command("broken", [sys.executable, "-S", "-c", program], data))
        with pytest.raises(ServerFailedError, match=r"broken .*, 10 restarts in a row(.|\n)*no luck"):
            await supervisor.wait()
        (status,) = supervisor.status()
    assert status.restarts == supervisor_module.RESTARTS_IN_A_ROW_MAX
    assert [event.state for event in events][-1] is State.GAVE_UP


async def test_one_shot_child_may_end(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        await supervisor.start(Command("once", [sys.executable, "-S", "-c", ""], data, restart=False))
        await eventually(lambda: supervisor.status()[0].state is State.ENDED)
        assert supervisor.status()[0].restarts == 0


async def test_child_that_cannot_run_is_named_with_its_log(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        child = Command("absent", ["/no/such/program"], data, ready=lambda: False)
        with pytest.raises(
            ServerFailedError, match=r"absent ended with status 127(.|\n)*cannot run /no/such"
        ):
            await supervisor.start(child)


async def test_error_in_the_block_stops_children_and_is_raised(data: DataDir) -> None:
    child = Command("sleeper", ["sleep", "600"], data)
    with pytest.raises(LookupError):
        await start_and_fail(child, data)
    assert child.pid is None


async def start_and_fail(child: Command, data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        await supervisor.start(child)
        raise LookupError


async def test_signal_leaves_the_block_and_the_task_goes_on(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        os.kill(os.getpid(), signal.SIGTERM)
        await supervisor.wait()
    assert supervisor.stopped_by is signal.SIGTERM
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


class BrokenStore(Command):
    """What a store is to the supervisor: never given up."""

    gives_up = False


async def test_store_that_keeps_ending_is_never_given_up(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MIN", 0.001)
    assert not RedisServer.gives_up
    assert not PostgresServer.gives_up
    mark = data.path / "mark"
    async with Supervisor(data) as supervisor:
        program = BROKEN.format(mark=mark)
        await supervisor.start(BrokenStore("broken", [sys.executable, "-S", "-c", program], data))
        restarts_max = supervisor_module.RESTARTS_IN_A_ROW_MAX
        await eventually(lambda: supervisor.status()[0].restarts > restarts_max)
        mark.unlink()
        await eventually(lambda: supervisor.status()[0].state is State.RUNNING and mark.exists())


async def test_child_that_ran_steadily_is_never_given_up(
    data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An API process that was killed cannot start while Postgres is away, however long that is."""
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MAX", 0.01)
    monkeypatch.setattr(supervisor_module, "RESTART_PAUSE_S_MIN", 0.001)
    monkeypatch.setattr(supervisor_module, "STEADY_S", 0.1)
    async with Supervisor(data) as supervisor:
        program = BROKEN.format(mark=data.path / "mark")
        await supervisor.start(Command("broken", [sys.executable, "-S", "-c", program], data))
        restarts_max = supervisor_module.RESTARTS_IN_A_ROW_MAX
        await eventually(lambda: supervisor.status()[0].restarts > restarts_max + 1)


async def test_stopped_child_may_be_started_again(data: DataDir) -> None:
    async with Supervisor(data) as supervisor:
        redis = await supervisor.start(RedisServer(data))
        with pytest.raises(ValueError, match="two children"):
            await supervisor.start(redis)
        await supervisor.stop(redis.name)
        assert redis.pid is None
        await supervisor.start(redis)
        assert [status.state for status in supervisor.status()] == [State.RUNNING]
