"""The protocol as steps without I/O: a use case is a generator that yields calls and is sent the answers.

The engine drives it through the batcher (``drive.py``); a test or a simulation drives the same generator
itself, and may stop between any two steps, which is what a crash of the process is.
"""

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from engine.redis.keyspace import Keyspace

if TYPE_CHECKING:
    import asyncio

Outcome = TypeVar("Outcome")


class Call(msgspec.Struct, frozen=True, gc=False):
    """One operation for one partition. ``awaited`` is false where nobody needs the answer."""

    partition: int
    record: bytes
    awaited: bool = True


Steps = Generator[Call, bytes, Outcome]


class Placement(msgspec.Struct, frozen=True):
    """Where guards and seats live, and the deadline (ms, the partition's clock) of what is sent now."""

    keyspace: Keyspace
    not_after: Callable[[int], int]


class Sender(Protocol):
    """What carries one operation to a partition: the batcher."""

    def put(self, partition: int, record: bytes) -> "asyncio.Future[bytes]":
        """Queue the operation; its answer comes with the future."""
