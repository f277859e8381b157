"""The guard of conftest.py itself: loopback passes, anything else is refused before a packet leaves."""

import socket

import pytest


@pytest.mark.parametrize("host", ["example.org", "192.0.2.1", "2001:db8::1"])
def test_beyond_loopback_is_refused(host: str) -> None:
    with pytest.raises(PermissionError, match="tests stay on this machine"):
        socket.create_connection((host, 80), timeout=1)


def test_loopback_passes() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
