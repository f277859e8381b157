import asyncio
from pathlib import Path

import pytest

from engine.storage.migrate import MIGRATIONS, MigrationConflict, migrate, migrations
from engine.storage.pool import connect_alone

ALL = [migration.version for migration in migrations()]


async def test_a_second_run_applies_nothing(database_url: str) -> None:
    connection = await connect_alone(database_url)
    assert await migrate(connection) == ALL
    assert await migrate(connection) == []
    await connection.close()


async def test_two_at_once_apply_each_migration_once(database_url: str) -> None:
    both = [await connect_alone(database_url) for _ in range(2)]
    applied = await asyncio.gather(*[migrate(connection) for connection in both])
    assert sorted(applied) == [[], ALL]
    for connection in both:
        await connection.close()


async def test_a_changed_migration_is_refused(database_url: str, tmp_path: Path) -> None:
    connection = await connect_alone(database_url)
    await migrate(connection)
    for path in MIGRATIONS.glob("*.sql"):
        (tmp_path / path.name).write_text(path.read_text() + "-- changed\n")
    with pytest.raises(MigrationConflict, match=r"0001_bookings\.sql was changed"):
        await migrate(connection, tmp_path)
    await connection.close()


async def test_a_database_of_a_newer_version_is_refused(database_url: str, tmp_path: Path) -> None:
    connection = await connect_alone(database_url)
    (tmp_path / "0001_one.sql").write_text("create table one (a integer)")
    (tmp_path / "0002_two.sql").write_text("create table two (a integer)")
    assert await migrate(connection, tmp_path) == [1, 2]
    (tmp_path / "0002_two.sql").unlink()
    with pytest.raises(MigrationConflict, match="0002"):
        await migrate(connection, tmp_path)
    await connection.close()


async def test_a_migration_that_fails_leaves_nothing(database_url: str, tmp_path: Path) -> None:
    connection = await connect_alone(database_url)
    (tmp_path / "0001_one.sql").write_text("create table one (a integer)")
    (tmp_path / "0002_two.sql").write_text("create table two (a nonsense)")
    with pytest.raises(Exception, match="nonsense"):
        await migrate(connection, tmp_path)
    assert await connection.fetchval("select to_regclass('one')") is None
    await connection.close()
