"""One server at a time: start, stop, what a dead one left, what a living one holds."""

import os
import pwd
import shutil
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
import redis

from engine.servers import account
from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError
from engine.servers.postgres import PostgresServer
from engine.servers.redis import CONFIG_FILE, RedisServer
from engine.servers.server import Server

ServerKind = type[RedisServer] | type[PostgresServer]
both = pytest.mark.parametrize("kind", [RedisServer, PostgresServer])
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes accounts")


@pytest.fixture
def data() -> Iterator[DataDir]:
    with DataDir.make_temporary() as directory:
        yield directory


def kill_hard(server: Server) -> None:
    """End it as a power cut would: pid file and socket stay."""
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    server.stop()


@both
def test_starts_stops_and_starts_again_on_the_same_socket(kind: ServerKind, data: DataDir) -> None:
    server = kind(data)
    url = server.url
    for _ in range(2):
        server.start()
        assert server.is_ready()
        server.stop()
        assert server.pid is None
        assert not server.is_ready()
    assert server.url == url


@both
def test_files_of_a_dead_server_do_not_prevent_a_start(kind: ServerKind, data: DataDir) -> None:
    kill_hard(kind(data).start())
    with kind(data) as second:
        assert second.is_ready()


@both
def test_data_of_a_living_server_is_refused_in_one_line(
    kind: ServerKind, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.servers.server.LOCK_WAIT_S_MAX", 0.05)
    with kind(data) as first:
        with pytest.raises(DataDirError, match=r"^\S+ is in use by a running \w+: stop that run or [^\n]*$"):
            kind(data).start()
        assert first.is_ready()


def test_pid_file_of_a_number_that_is_now_another_program(data: DataDir) -> None:
    server = PostgresServer(data).start()
    kill_hard(server)
    pid_file = server.directory / "postmaster.pid"
    lines = pid_file.read_text().split("\n")
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with server:
        assert server.is_ready()


def test_redis_is_configured_from_the_file_and_by_parameter(data: DataDir) -> None:
    with RedisServer(data, appendfsync="everysec") as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        wanted = {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "hash-max-listpack-entries": "512",
            "hash-max-listpack-value": "512",
        }
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.close()


def test_what_redis_answers_is_on_disk_unless_somebody_asks_for_less(data: DataDir) -> None:
    """Only a power cut shows the difference, so this looks at the setting: of the server, and of the file."""
    wanted = {"appendonly": "yes", "appendfsync": "always", "no-appendfsync-on-rewrite": "no"}
    with RedisServer(data) as server:
        client = redis.Redis.from_url(server.url, decode_responses=True)
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        client.close()
    lines = CONFIG_FILE.read_text().splitlines()
    assert [line for line in lines if line.partition(" ")[0] in wanted] == [
        f"{name} {value}" for name, value in wanted.items()
    ]


async def test_postgres_is_configured_from_the_file(postgres_server: PostgresServer) -> None:
    connection = await asyncpg.connect(await postgres_server.create_database('odd "name"'))
    assert await connection.fetchval("SHOW synchronous_commit") == "on"
    assert await connection.fetchval("SHOW log_parameter_max_length") == "0"
    assert await connection.fetchval("SHOW lc_messages") == "C"
    await connection.close()


def test_tcp_port_when_asked(data: DataDir, unused_port: int) -> None:
    with RedisServer(data, port=unused_port):
        client = redis.Redis(port=unused_port)
        assert client.ping()
        client.close()


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_socket_paths_are_short_below_a_long_directory(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    with DataDir.open(deep) as data, RedisServer(data) as server:
        assert len(os.fsencode(server.socket)) < 104
        assert DataDir.open(deep).run_dir == data.run_dir
    assert deep.exists()
    shutil.rmtree(data.run_dir)


@as_root
def test_root_runs_postgres_as_an_ordinary_account(postgres_server: PostgresServer) -> None:
    owner = Path(f"/proc/{postgres_server.pid}").stat().st_uid
    assert pwd.getpwuid(owner).pw_name in account.CANDIDATES
    assert postgres_server.socket_dir.stat().st_mode & 0o077 == 0


@as_root
def test_root_keeps_data_below_a_closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = tmp_path / "public"
    monkeypatch.setattr(account, "PUBLIC_PLACE", public)
    open_to_all(public.parent)
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with DataDir.open(closed / "data") as data:
        with PostgresServer(data) as server:
            made_at = server.directory
        with PostgresServer(data) as server:
            assert server.directory == made_at
        assert made_at.parent == public
        assert closed.stat().st_mode & 0o777 == 0o700
        shutil.rmtree(data.run_dir)


@as_root
def test_binaries_out_of_reach_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    public = tmp_path / "public"
    monkeypatch.setattr(account, "PUBLIC_PLACE", public)
    closed = tmp_path / "home"
    install = closed / "package" / "pginstall"
    for part in ("bin", "lib", "share"):
        (install / part).mkdir(parents=True)
    (install / "bin" / "postgres").write_text("binary")
    (install / "bin" / "postgres").chmod(0o700)
    (closed / "package.libs").mkdir()
    closed.chmod(0o700)
    copy = account.reachable_binaries(install / "bin")
    assert (copy / "postgres").read_text() == "binary"
    assert (copy / "postgres").stat().st_mode & 0o777 == 0o755
    assert (copy.parents[2] / "package.libs").is_dir()
    assert account.reachable_binaries(install / "bin") == copy
    assert len(list(public.iterdir())) == 1


def open_to_all(folder: Path) -> None:
    """Let every account pass through pytest's private folders."""
    for place in (folder, *folder.parents):
        if place.stat().st_uid == os.geteuid():
            place.chmod(place.stat().st_mode | 0o011)
