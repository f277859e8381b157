"""Binds a TCP port, or names it as taken and takes another.

The listening socket is returned, not its number: handed to children by descriptor it stays open while one
of them restarts (connections wait in the backlog), and nobody can take the port in between.
"""

import errno
import secrets
import socket
from dataclasses import dataclass

from engine.servers.errors import PortError

LOOPBACK = "127.0.0.1"
BACKLOG = 2048
PORTS_TRIED_MAX = 50
PORT_MAX = 65535
# Below those that systems give to outgoing connections, which could take the port while its server restarts.
UNUSED_PORTS = range(10_000, 30_000)


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket. `note` is a line for people if the wanted port was not to be had."""

    socket: socket.socket
    host: str
    port: int
    note: str | None = None

    @property
    def fd(self) -> int:
        """Descriptor for `Command(fds=[...])`; uvicorn takes it as `--fd`."""
        return self.socket.fileno()

    @property
    def url(self) -> str:
        """Address to print."""
        return f"http://{self.host}:{self.port}"

    def close(self) -> None:
        """Close our copy; children that inherited it go on listening."""
        self.socket.close()


def listen(wanted: int, host: str = LOOPBACK) -> Listener:
    """Listen on the wanted port (0: any), else on the next free one above it, else on any."""
    above = range(wanted, min(wanted + PORTS_TRIED_MAX, PORT_MAX + 1))
    for port in (*above, 0) if wanted else (0,):
        bound = _try(host, port)
        if bound is not None:
            break
    else:
        raise PortError(f"no TCP port can be bound on {host}: choose another with --port")
    number = bound.getsockname()[1]
    note = f"port {wanted} is taken, using {number}" if wanted not in {0, number} else None
    return Listener(bound, host, number, note)


def is_free(port: int) -> bool:
    """Whether a server could listen on this port of loopback now."""
    bound = _try(LOOPBACK, port)
    if bound is not None:
        bound.close()
    return bound is not None


def unused_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago, for servers that bind them by number themselves."""
    found: set[int] = set()
    for _ in range(count * PORTS_TRIED_MAX):
        port = secrets.choice(UNUSED_PORTS)
        if is_free(port):
            found.add(port)
        if len(found) == count:
            return list(found)
    raise PortError(f"no {count} TCP ports are free on {LOOPBACK}: end what listens there")


def _try(host: str, port: int) -> socket.socket | None:
    """A socket that listens, or None if the port is taken or reserved; other faults are `PortError`."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno in {errno.EADDRINUSE, errno.EACCES}:
            return None
        raise PortError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening
