"""`dosebook audit`: compares everything with everything, and names what differs."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from engine import limits
from engine.cli.stores import add_store_arguments, settings_of

if TYPE_CHECKING:
    from engine.recovery.audit import Report
    from engine.settings import Settings

SUMMARY = "compare seats, courses, guards, Postgres and acknowledgements"
DESCRIPTION = """\
Compares the seat masks, courses and guards in Redis with the rows in Postgres and, if given, with what the
clients were told. Works while people book: only what recurs is counted. Exit status 1 if anything differs.

  ./dosebook audit
  ./dosebook audit --acks var/acks.jsonl --json audit.json

  oversold       seats sold twice, or sold without being on sale
  double_booked  people with more than one live course of a kind
  half_booked    live courses without exactly their appointments
  lost           acknowledged, but absent or different now
  in_doubt       claims without an outcome
  quarantined    events that broke a proof of the schema
  drift          any other difference
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Logs, the stores, and where to write the figures."""
    parser.add_argument(
        "--acks", nargs="+", type=Path, default=[], metavar="FILE", help="logs of what clients were told"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report to FILE")
    add_store_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if anything differs, or the stores cannot be read."""
    import asyncpg
    import msgspec
    from redis.exceptions import RedisError

    from engine.errors import EngineFault
    from engine.recovery.acks import AckLogError
    from engine.settings import SettingError

    faults = (
        SettingError,
        AckLogError,
        EngineFault,
        asyncpg.PostgresError,
        RedisError,
        OSError,
        TimeoutError,
    )
    try:
        report = asyncio.run(audit(settings_of(args), args.acks, _say))
    except faults as error:
        print(f"dosebook: the audit could not be made: {error}", file=sys.stderr)
        return 1
    print_report(report)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if report.is_clean else 1


async def audit(settings: "Settings", acks: list[Path], say: Callable[[str], None]) -> "Report":
    """Audit the deployment of these settings. Raises what the stores raise, and ``AckLogError``."""
    from engine.privacy.references import References
    from engine.privacy.secrets import open_secrets
    from engine.recovery.audit import Audit
    from engine.redis.keyspace import Keyspace
    from engine.redis.nodes import open_nodes
    from engine.storage.pool import connect_alone

    decode = (
        References(open_secrets(settings.secrets_dir).reference_key).booking if acks else lambda text: None
    )
    keyspace, timeout_s = Keyspace(settings.partitions), limits.AUDIT_REPLY_S_MAX
    async with open_nodes(settings.redis_url, keyspace, connections=2, timeout_s=timeout_s) as nodes:
        connection = await connect_alone(settings.database_url)
        try:
            return await Audit(connection, nodes, (acks, decode), say).run()
        finally:
            await connection.close()


def print_report(report: "Report") -> None:
    """The figures as a table, then the first differences of each in words."""
    print(
        f"audit of {report.sessions:,} sessions, {report.courses:,} courses and {report.acknowledged:,}"
        f" acknowledgements in {report.seconds:.1f} s, {report.readings} reading(s)\n"
    )
    for figure, count in report.figures.items():
        print(f"  {figure:<14} {count:>9,}")
    for figure, words in report.first.items():
        print(f"\n{figure}, the first {len(words)} of {report.figures[figure]:,}:")
        for line in words:
            print(f"  {line}")
    print("\neverything agrees" if report.is_clean else "\nsomething differs")


def _say(line: str) -> None:
    print(f"audit: {line}", file=sys.stderr, flush=True)
