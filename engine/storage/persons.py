"""Writes persons. A person is registered here before anything is booked for them."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.course import Op
from engine.storage.queries import query


class Answer(StrEnum):
    """What became of a registration."""

    REGISTERED = "registered"
    REPEATED = "repeated"
    KEY_REUSED = "key-reused"


class NewRow(msgspec.Struct, frozen=True, gc=False):
    """One registration: under which op, of whom, and the sealed columns."""

    op: Op
    person: bytes
    sealed: bytes


class Registration(msgspec.Struct, frozen=True):
    """``person`` is the key of the person whom this op registered, now or before."""

    answer: Answer
    person: bytes


async def register(connection: Any, rows: Sequence[NewRow]) -> list[Registration]:
    """Insert persons and registrations in one statement; an answer for each row, in their order.

    The rows' op keys differ from each other. A person who is there keeps the first sealed row.
    ``connection`` may be a pool.
    """
    made = await connection.fetch(
        query("person.register"),
        [row.op.key for row in rows],
        [row.op.digest for row in rows],
        [UUID(bytes=row.person) for row in rows],
        [row.sealed for row in rows],
    )
    now = {record["op_key"] for record in made}
    before = [row.op.key for row in rows if row.op.key not in now]
    known = {
        record["op_key"]: record
        for record in (await connection.fetch(query("person.registrations"), before) if before else ())
    }
    return [
        Registration(Answer.REGISTERED, row.person) if row.op.key in now else _known(known[row.op.key], row)
        for row in rows
    ]


def _known(record: Any, row: NewRow) -> Registration:
    """What an op that was there before answers."""
    answer = Answer.REPEATED if record["op_digest"] == row.op.digest else Answer.KEY_REUSED
    return Registration(answer, record["person_key"].bytes)
