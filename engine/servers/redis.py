"""One Redis or Valkey server on a unix socket, configured by config/redis/redis.conf.

It answers PING only when its append-only file is loaded, so "ready" means that the data is back. Its
``maxmemory`` is the file's, or half of the machine's memory where that is less: the other half is for a
rewrite's copied pages, Postgres and the processes.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from engine.servers import find
from engine.servers.child import Launch
from engine.servers.data_dir import DataDir
from engine.servers.errors import DataDirError
from engine.servers.server import CONFIG, Server, connect, server_environment

CONFIG_FILE = CONFIG / "redis" / "redis.conf"
PONG = b"+PONG"
MEMORY_BYTES_MAX = 4 * 1024**3
MEMORY_SHARE = 0.5
# What a container may use; "max" where nothing is set.
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


class RedisServer(Server):
    """Starts a server on `data`; `name` tells several in one directory apart.

    `port` adds a TCP port on loopback without a password, for tests of clusters; 0 means socket only.
    `settings` are configuration directives that override the file's; `env` is added to the environment.
    """

    def __init__(
        self,
        data: DataDir,
        *,
        name: str = "redis",
        appendfsync: str = "always",
        port: int = 0,
        settings: dict[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(name, data)
        self.socket = data.run_dir / f"{name}.sock"
        self.port = port
        self._settings = {"appendfsync": appendfsync, **(settings or {})}
        self._environment = dict(env or {})

    @property
    def url(self) -> str:
        """Address for redis-py."""
        return f"unix://{self.socket}"

    @property
    def directory(self) -> Path:
        """Where the append-only file lies."""
        return self.data.path / self.name

    def prepare(self) -> None:
        """Lock the data, then remove the socket of a dead server."""
        self.claim()
        if _answers(self.socket):
            self.spawned()
            raise DataDirError(
                f"another server listens on {self.socket}: stop it or choose another --data-dir"
            )
        self.socket.unlink(missing_ok=True)
        self.directory.mkdir(mode=0o700, exist_ok=True)

    def launch(self) -> Launch:
        """The server in the foreground, our places after the file's settings."""
        settings = {
            "dir": str(self.directory),
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "port": str(self.port),
            "bind": "127.0.0.1",
            "daemonize": "no",
            "maxmemory": str(memory_bytes_max()),
            **self._settings,
        }
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Launch(
            argv=(str(find.redis_binary()), str(CONFIG_FILE), *options),
            log=self.data.log_of(self.name),
            env=server_environment() | self._environment,
            cwd=self.directory,
            fds=self.held_claim(),
        )

    def is_ready(self) -> bool:
        """Whether PING is answered with PONG (not with LOADING)."""
        return _answers(self.socket)


def memory_bytes_max() -> int:
    """What a server of ours may store on this machine, in bytes."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        memory = min(memory, int(CONTAINER_LIMIT.read_text()))
    return min(MEMORY_BYTES_MAX, int(memory * MEMORY_SHARE))


def _answers(socket_path: Path) -> bool:
    try:
        with connect(socket_path) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(PONG)
    except OSError:
        return False
