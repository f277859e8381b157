"""A taken port is named and another one is bound; children share the socket."""

import socket
import sys
from collections.abc import Iterator

import pytest

from engine.servers.command import Command
from engine.servers.data_dir import DataDir
from engine.servers.errors import PortError
from engine.servers.ports import Listener, is_free, listen, unused_ports

# Answers each connection with its process id, on a descriptor that it was given.
ANSWERER = """
import os, socket, sys
listening = socket.socket(fileno=int(sys.argv[1]))
while True:
    connection, _ = listening.accept()
    connection.sendall(str(os.getpid()).encode())
    connection.close()
"""


@pytest.fixture
def listener() -> Iterator[Listener]:
    bound = listen(0)
    yield bound
    bound.close()


def test_free_port_is_taken_without_a_word() -> None:
    probe = listen(0)
    probe.close()
    again = listen(probe.port)
    assert (again.port, again.note) == (probe.port, None)
    again.close()


def test_taken_port_is_named_and_another_chosen(listener: Listener) -> None:
    other = listen(listener.port)
    assert other.port != listener.port
    assert other.note == f"port {listener.port} is taken, using {other.port}"
    other.close()


def test_port_is_free_or_taken(listener: Listener) -> None:
    assert not is_free(listener.port)
    listener.close()
    assert is_free(listener.port)


def test_unused_ports_are_different_and_free() -> None:
    ports = unused_ports(6)
    assert len(set(ports)) == 6
    assert all(map(is_free, ports))


def test_address_that_is_not_ours() -> None:
    with pytest.raises(PortError, match=r"cannot listen on 192\.0\.2\.1:"):
        listen(8000, host="192.0.2.1")


def test_connections_wait_while_the_worker_restarts(listener: Listener) -> None:
    with DataDir.make_temporary() as data:
        worker = Command(
            "worker", [sys.executable, "-c", ANSWERER, str(listener.fd)], data, fds=[listener.fd]
        )
        with worker:
            assert ask(listener) == str(worker.pid)
        with socket.create_connection((listener.host, listener.port), timeout=10) as waiting, worker:
            assert waiting.recv(64).decode() == str(worker.pid)


def ask(listener: Listener) -> str:
    with socket.create_connection((listener.host, listener.port), timeout=10) as connection:
        return connection.recv(64).decode()
