"""Brings a database to the present schema: numbered SQL files, each applied once, all in one transaction.

Idempotent and safe to run from several processes at once: an advisory lock lets one in at a time. What was
applied is recorded with its checksum; a migration that was changed after it ran, or one that this tree does
not know (a newer dosebook has used the database), is a ``MigrationConflict`` and nothing is done.
"""

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import EngineFault
from engine.storage.queries import query

MIGRATIONS = Path(__file__).parent / "migrations"
FILE = re.compile(r"(\d{4})_(\w+)\.sql")


class MigrationConflict(EngineFault):
    """The database's migrations are not this tree's; the message says which."""


class Migration(msgspec.Struct, frozen=True):
    """One file of ``migrations/``."""

    version: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        """SHA-256 of the file, in hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """All migrations by version. Raises ``MigrationConflict`` unless they are numbered without gaps."""
    found = [(FILE.fullmatch(path.name), path) for path in sorted(folder.glob("*.sql"))]
    result = [Migration(int(m[1]), m[2], path.read_text("utf-8")) for m, path in found if m]
    if len(result) != len(found) or [m.version for m in result] != list(range(1, len(found) + 1)):
        raise MigrationConflict(f"{folder} does not hold 0001_….sql, 0002_….sql and so on without gaps")
    return result


async def migrate(connection: Any, folder: Path = MIGRATIONS) -> list[int]:
    """Apply what is missing; returns the versions applied now."""
    wanted = migrations(folder)
    async with connection.transaction():
        await connection.execute(query("migration.lock"))
        await connection.execute(query("migration.create_table"))
        rows = await connection.fetch(query("migration.applied"))
        missing = _missing(wanted, {row["version"]: row["checksum"] for row in rows})
        for migration in missing:
            await connection.execute(migration.sql)
            record = (migration.version, migration.name, migration.checksum)
            await connection.execute(query("migration.record"), *record)
    return [migration.version for migration in missing]


def _missing(wanted: list[Migration], applied: dict[int, str]) -> list[Migration]:
    for migration in wanted:
        if applied.get(migration.version, migration.checksum) != migration.checksum:
            raise MigrationConflict(
                f"migration {migration.version:04}_{migration.name}.sql was changed after it was applied:"
                " restore the file and write a new migration"
            )
    unknown = set(applied) - {migration.version for migration in wanted}
    if unknown:
        raise MigrationConflict(
            f"the database has migration {max(unknown):04}, which this dosebook does not know: use a newer"
        )
    return [migration for migration in wanted if migration.version not in applied]
