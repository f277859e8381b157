"""Writes persons. A person is registered here before anything is booked for them."""

from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.course import Op
from engine.errors import OutcomeUnknown
from engine.storage.queries import query


class Answer(StrEnum):
    """What became of a registration."""

    REGISTERED = "registered"
    REPEATED = "repeated"
    KEY_REUSED = "key-reused"


class Registration(msgspec.Struct, frozen=True):
    """``person`` is the key of the person whom this op registered, now or before."""

    answer: Answer
    person: bytes


async def register(connection: Any, op: Op, person: bytes, sealed: bytes) -> Registration:
    """Insert person and registration in one statement. A person who is there keeps the first sealed row.

    ``connection`` may be a pool. Raises ``OutcomeUnknown`` when rivals with the same op never end.
    """
    for _ in range(2):
        row = await connection.fetchrow(
            query("person.register"), op.key, op.digest, UUID(bytes=person), sealed
        )
        if row is not None:
            return Registration(_answer(row, op), row["person_key"].bytes)
    raise OutcomeUnknown("another registration with the same key is under way: ask again")


def _answer(row: Any, op: Op) -> Answer:
    if row["now"]:
        return Answer.REGISTERED
    return Answer.REPEATED if row["op_digest"] == op.digest else Answer.KEY_REUSED
