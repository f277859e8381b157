"""What Redis and Postgres have in common: a place in the data directory, a lock on it, a plain environment.

The lock (see `DataDir.claim`) is what tells a living server from the files of a dead one: with it in hand,
a stale socket may be removed; without it, the start is refused in one line.
"""

import os
import socket
from abc import abstractmethod
from pathlib import Path

from engine.servers.child import Child
from engine.servers.data_dir import DataDir

CONFIG = Path(__file__).resolve().parents[2] / "config"
LOCK_WAIT_S_MAX = 3.0
PROBE_TIMEOUT_S = 0.5


class Server(Child):
    """A server with data of its own. `url` is what clients connect to."""

    ready_s_max = 120.0
    # What ends a store that has run once (a full disk, a failing one) may be mended hours later.
    gives_up = False

    def __init__(self, name: str, data: DataDir) -> None:
        super().__init__(name)
        self.data = data
        self._claim: int | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Address for clients; the same after a restart."""

    def claim(self) -> int:
        """Take the lock on this server's data for the process to be started."""
        self.spawned()
        self._claim = self.data.claim(self.name, LOCK_WAIT_S_MAX)
        return self._claim

    def spawned(self) -> None:
        """Let go of our copy of the lock: from now on the server holds it, or nobody does."""
        if self._claim is not None:
            os.close(self._claim)
            self._claim = None

    def held_claim(self) -> tuple[int, ...]:
        """Descriptor of the lock, to be inherited."""
        return () if self._claim is None else (self._claim,)


def server_environment() -> dict[str, str]:
    """Ours, without what would steer the server from outside: locale, time zone, PG* variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "PYTHON"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def connect(path: Path) -> socket.socket:
    """Connection to a unix socket; raises OSError if nobody listens."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(PROBE_TIMEOUT_S)
    try:
        connection.connect(os.fspath(path))
    except OSError:
        connection.close()
        raise
    return connection
