"""`dosebook rebuild`: restores partitions that Redis has lost, from Postgres."""

import argparse
import asyncio
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from engine import limits
from engine.cli.stores import add_store_arguments, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from engine.recovery.rebuild import Progress, Rebuilt
    from engine.settings import Settings

SUMMARY = "restore partitions that Redis has lost, from Postgres"
DESCRIPTION = """\
For a Redis that came back empty, older, or is another one: writes courses, guards and seats as Postgres has
them, after saving what the outbox still has, under a new epoch. Partitions that agree with Postgres are left
alone. The service may run: lost partitions are closed, and open by themselves when this is done. A run that
is broken off leaves them closed; run it again.

  ./dosebook rebuild --all
  ./dosebook rebuild --partition 3 --json rebuilt.json
  ./dosebook rebuild --all --force           sound partitions too: they are closed meanwhile
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which partitions, the stores, and where to write the figures."""
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--partition", type=int, metavar="N", help="this one, if it is lost")
    which.add_argument("--all", action="store_true", help="every one that is lost")
    parser.add_argument("--force", action="store_true", help="also what agrees with Postgres")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE")
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if the rebuild could not be brought to its end."""
    import asyncpg
    import msgspec
    from redis.exceptions import RedisError

    from engine.errors import EngineFault
    from engine.settings import SettingError

    faults = (SettingError, EngineFault, asyncpg.PostgresError, RedisError, OSError, TimeoutError)
    try:
        settings = settings_of(args)
        wanted = range(settings.partitions) if args.all else [args.partition]
        with _bar() as progress:
            rebuilt = asyncio.run(rebuild(settings, list(wanted), args.force, progress))
    except faults as error:
        print(f"dosebook: the rebuild did not end: {error or type(error).__name__}", file=sys.stderr)
        return 1
    print(words_of(rebuilt))
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(rebuilt)) + b"\n")
    return 0


async def rebuild(
    settings: "Settings", partitions: list[int], force: bool, progress: "Progress"
) -> "Rebuilt":
    """Rebuild these partitions of the deployment. Raises what the stores raise, and ``RebuildFailed``."""
    from engine.recovery.rebuild import Rebuild
    from engine.redis.keyspace import Keyspace
    from engine.redis.nodes import open_nodes
    from engine.storage.migrate import migrate
    from engine.storage.pool import connect_alone

    keyspace, timeout_s = Keyspace(settings.partitions), limits.AUDIT_REPLY_S_MAX
    async with open_nodes(settings.redis_url, keyspace, timeout_s=timeout_s) as nodes:
        connection = await connect_alone(settings.database_url)
        try:
            await migrate(connection)
            return await Rebuild(connection, nodes, _say, progress).run(partitions, force=force)
        finally:
            await connection.close()


@contextmanager
def _bar() -> "Iterator[Progress]":
    """A progress bar on standard error; nothing where that is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("courses"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("courses", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def words_of(rebuilt: "Rebuilt") -> str:
    """What was done, for people."""
    if not rebuilt.epochs:
        return "nothing is lost: nothing was rebuilt"
    return (
        f"{len(rebuilt.epochs)} partition(s) rebuilt in {rebuilt.seconds:.1f} s: {rebuilt.courses:,} courses,"
        f" {rebuilt.guards:,} guards, {rebuilt.sessions:,} sessions;"
        f" {rebuilt.events_saved:,} events were saved from the outboxes first"
    )


def _say(line: str) -> None:
    print(f"rebuild: {line}", file=sys.stderr, flush=True)
