"""The helpline's override: registers somebody whom names and birth date do not tell apart from another.

The override is logged before the person is registered: dying in between leaves a line without a person, never
a person without a line. Asking again with the same Idempotency-Key writes nothing twice.
"""

from hashlib import sha256
from typing import Any
from uuid import UUID

import structlog

from engine.errors import StorageAway
from engine.persons.register import KeyReused, NewPerson, Registrar
from engine.privacy.seal import Place, Sealer
from engine.storage.pool import FAULTS
from engine.storage.queries import query

_log = structlog.get_logger("helpline")


class Homonyms:
    """``pool`` is of Postgres."""

    def __init__(self, pool: Any, registrar: Registrar, sealer: Sealer) -> None:
        self._pool = pool
        self._registrar = registrar
        self._sealer = sealer

    async def register(
        self, new: NewPerson, agent: str, reason: str, idempotency_key: str
    ) -> bytes | KeyReused:
        """The person key. ``new`` has a disambiguator. Raises as ``Registrar.register``."""
        person = self._registrar.key_of(new)
        key = sha256(b"homonym\0" + idempotency_key.encode()).digest()[:16]
        sealed = self._sealer.seal(Place("homonym", "reason", key), reason)
        try:
            await self._pool.execute(query("homonym.insert"), key, UUID(bytes=person), agent, sealed)
        except FAULTS as error:
            raise StorageAway(f"Postgres did not log the override: {type(error).__name__}") from error
        _log.info("helpline.homonym", agent=agent, person=person.hex()[:8])
        return await self._registrar.register(new, idempotency_key)
