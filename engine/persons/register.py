"""Registers a person in Postgres: the person key, and the personal columns sealed.

The same identity gives the same key, whoever registers it and how often. The first sealed row stays. A
failure of Postgres is ``StorageAway``: asking again with the same Idempotency-Key is always right.
"""

from datetime import date
from hashlib import sha256
from typing import Any

import asyncpg
import msgspec

from engine.domain.course import Op
from engine.errors import StorageAway
from engine.privacy.person_key import Identity, person_key
from engine.privacy.seal import Place, Sealer
from engine.storage import persons
from engine.storage.persons import Answer

_KEY_BYTES = 8
_PLACE = ("person", "sealed")


class NewPerson(msgspec.Struct, frozen=True, gc=False):
    """What is known of a person: who they are, and how they are reached."""

    family_name: str
    given_names: str
    birth_date: date
    disambiguator: str = ""
    email: str = ""
    phone: str = ""


class KeyReused(msgspec.Struct, frozen=True):
    """The Idempotency-Key has registered somebody else, or the same person with other particulars."""


class Registrar:
    """Registers under the deployment's pepper. ``pool`` is of Postgres."""

    def __init__(self, pool: Any, pepper: bytes, sealer: Sealer) -> None:
        self._pool = pool
        self._pepper = pepper
        self._sealer = sealer

    async def register(self, new: NewPerson, idempotency_key: str) -> bytes | KeyReused:
        """The person key. Raises ``NamelessError`` for names without a letter, and ``StorageAway``."""
        identity = Identity(new.family_name, new.given_names, new.birth_date, new.disambiguator)
        person = person_key(identity, self._pepper)
        sealed = self._sealer.seal(Place(*_PLACE, person), new)
        op = _op(person, new, idempotency_key)
        try:
            registration = await persons.register(self._pool, op, person, sealed)
        except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
            raise StorageAway(f"Postgres did not register: {type(error).__name__}") from None
        return KeyReused() if registration.answer is Answer.KEY_REUSED else registration.person


def _op(person: bytes, new: NewPerson, idempotency_key: str) -> Op:
    """Nobody is known before they are registered, so the key's scope is the deployment."""
    key = sha256(b"register\0" + idempotency_key.encode()).digest()[:_KEY_BYTES]
    return Op(key, sha256(person + msgspec.msgpack.encode(new)).digest()[:_KEY_BYTES])
