"""The seam through which every personal column passes on its way to Postgres and back.

The caller names where the value lives (table, column, row), so that an implementation can bind the cipher
text to its place: a sealed value that is copied into another row does not open there.
"""

from typing import Any, Protocol, TypeVar

import msgspec

T = TypeVar("T")


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a sealed value lives. ``row`` is the row's key, for a person the person key."""

    table: str
    column: str
    row: bytes


class UnsealError(Exception):
    """The value does not open: damaged, or written elsewhere. Never says what is in it."""


class Sealer(Protocol):
    """Seals values for a column and opens them again."""

    def seal(self, place: Place, value: Any) -> bytes:
        """The bytes to store for a value that msgpack can carry."""

    def open(self, place: Place, sealed: bytes, kind: type[T]) -> T:
        """The value as it was sealed. Raises ``UnsealError``."""


class PlainSealer:
    """Plain msgpack, NOT a seal: encryption with a key per person arrives with the privacy work.

    For development and tests only. A production deployment must not use it.
    """

    def seal(self, place: Place, value: Any) -> bytes:
        """The value as msgpack, readable by anyone who reads the table."""
        return msgspec.msgpack.encode(value)

    def open(self, place: Place, sealed: bytes, kind: type[T]) -> T:
        """The value from msgpack. Raises ``UnsealError``."""
        try:
            return msgspec.msgpack.decode(sealed, type=kind)
        except msgspec.DecodeError:
            raise UnsealError(f"a value of {place.table}.{place.column} does not open") from None
