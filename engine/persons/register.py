"""Registers a person in Postgres: the person key, and the personal columns sealed.

The same identity gives the same key, whoever registers it and how often. The first sealed row stays. A
failure of Postgres is ``StorageAway``: asking again with the same Idempotency-Key is always right.
"""

import asyncio
from datetime import date
from hashlib import sha256
from typing import Any

import msgspec

from engine import limits
from engine.domain.course import Op
from engine.errors import QueueFull, StorageAway
from engine.privacy.person_key import Identity, person_key
from engine.privacy.seal import Place, Sealer
from engine.storage import persons
from engine.storage.persons import Answer, NewRow, Registration
from engine.storage.pool import FAULTS

_KEY_BYTES = 8
_PLACE = ("person", "sealed")
_Waiting = tuple[NewRow, "asyncio.Future[Registration]"]


class NewPerson(msgspec.Struct, frozen=True, gc=False):
    """What is known of a person: who they are, and how they are reached."""

    family_name: str
    given_names: str
    birth_date: date
    disambiguator: str = ""
    email: str = ""
    phone: str = ""
    groups: tuple[str, ...] = ()


class KeyReused(msgspec.Struct, frozen=True):
    """The Idempotency-Key has registered somebody else, or the same person with other particulars."""


class Registrar:
    """Registers under the deployment's pepper. ``pool`` is of Postgres.

    What arrives while a statement is under way goes with the next one: a rush costs one statement for many.
    """

    def __init__(self, pool: Any, pepper: bytes, sealer: Sealer) -> None:
        self._pool = pool
        self._pepper = pepper
        self._sealer = sealer
        self._waiting: list[_Waiting] = []
        self._running: set[asyncio.Task[None]] = set()

    async def register(self, new: NewPerson, idempotency_key: str) -> bytes | KeyReused:
        """The person key.

        Raises ``NamelessError`` for names without a letter, ``StorageAway``, and ``QueueFull``.
        """
        person = self.key_of(new)
        sealed = self._sealer.seal(Place(*_PLACE, person), new)
        registration = await self._put(NewRow(_op(person, new, idempotency_key), person, sealed))
        return KeyReused() if registration.answer is Answer.KEY_REUSED else registration.person

    def key_of(self, new: NewPerson) -> bytes:
        """The person key. Raises ``NamelessError`` for names without a letter."""
        identity = Identity(new.family_name, new.given_names, new.birth_date, new.disambiguator)
        return person_key(identity, self._pepper)

    def _put(self, row: NewRow) -> "asyncio.Future[Registration]":
        if len(self._waiting) >= limits.REGISTER_QUEUE_MAX:
            raise QueueFull(
                f"{limits.REGISTER_QUEUE_MAX} people wait to be registered; try again in a second"
            )
        future: asyncio.Future[Registration] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, future))
        self._begin()
        return future

    def _begin(self) -> None:
        if self._waiting and len(self._running) < limits.REGISTER_STATEMENTS_MAX:
            task = asyncio.get_running_loop().create_task(self._write())
            self._running.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._begin()

    async def _write(self) -> None:
        batch, self._waiting = _next_batch(self._waiting)
        try:
            answers = await persons.register(self._pool, [row for row, _ in batch])
        except Exception as error:
            # Whatever it is, it is for those who wait, and leaves none of them waiting.
            _fail(batch, error)
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            if not future.done():
                future.set_result(answer)


def _fail(batch: list[_Waiting], error: Exception) -> None:
    away = isinstance(error, FAULTS)
    fault = StorageAway(f"Postgres did not register: {type(error).__name__}") if away else error
    for _, future in batch:
        if not future.done():
            future.set_exception(fault)
            # Read here too: the caller may have gone away.
            future.exception()


def _next_batch(waiting: list[_Waiting]) -> tuple[list[_Waiting], list[_Waiting]]:
    """The rows for one statement, each op key once, and those that go on waiting."""
    keys: set[bytes] = set()
    batch: list[_Waiting] = []
    later: list[_Waiting] = []
    for item in waiting:
        key = item[0].op.key
        if key in keys or len(batch) == limits.REGISTER_ROWS_MAX:
            later.append(item)
        else:
            keys.add(key)
            batch.append(item)
    return batch, later


def _op(person: bytes, new: NewPerson, idempotency_key: str) -> Op:
    """Nobody is known before they are registered, so the key's scope is the deployment."""
    key = sha256(b"register\0" + idempotency_key.encode()).digest()[:_KEY_BYTES]
    return Op(key, sha256(person + msgspec.msgpack.encode(new)).digest()[:_KEY_BYTES])
