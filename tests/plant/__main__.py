"""`./dosebook plant`."""

import argparse
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.plant.bugs import BUGS, Bug
from tests.plant.planter import NO_BUG, Verdict, control, judge, parts_of


def main() -> int:
    """Exit status 1 unless every bug is caught by suites that pass without it."""
    parser = argparse.ArgumentParser(prog="dosebook plant")
    parser.add_argument("names", nargs="*", help="some of the bugs, by part of their name")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bugs = [bug for bug in BUGS if not args.names or any(name in bug.name for name in args.names)]
    if not bugs:
        print(f"dosebook: no bug is named so; there are: {', '.join(bug.name for bug in BUGS)}")
        return 1
    began = time.monotonic()
    verdicts = _judge_all(bugs, args.processes)
    result = _result(verdicts, time.monotonic() - began)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _say(verdicts, result)
    return 0 if all(one.verdict in {"caught", "passes"} for one in verdicts) else 1


def _judge_all(bugs: list[Bug], processes: int) -> list[Verdict]:
    console = Console(stderr=True)
    # Each has a tree and servers of its own, so they do not meet.
    with console.status("the suites without a bug") as status, ThreadPoolExecutor(processes) as pool:
        verdicts = list(pool.map(control, parts_of(bugs, processes)))
        if any(one.verdict != "passes" for one in verdicts):
            return verdicts
        for at, verdict in enumerate(pool.map(judge, bugs), start=1):
            verdicts.append(verdict)
            status.update(f"{at} of {len(bugs)}: {verdict.name}")
    return verdicts


def _result(verdicts: list[Verdict], seconds: float) -> dict[str, object]:
    planted = [one for one in verdicts if one.name != NO_BUG]
    return {
        "planted": len(planted),
        "caught": sum(one.verdict == "caught" for one in planted),
        "seconds": round(seconds, 1),
        "bugs": [msgspec.to_builtins(one) for one in verdicts],
    }


def _say(verdicts: list[Verdict], result: dict[str, object]) -> None:
    console, table = Console(), Table("bug", "verdict", "s", "what it would do")
    for one in verdicts:
        table.add_row(one.name, one.verdict, f"{one.seconds:.1f}", one.why)
    console.print(table)
    for one in verdicts:
        if one.words:
            console.print(f"\n{one.name}: {one.verdict}\n{one.words}", markup=False, highlight=False)
    console.print(f"{result['caught']} of {result['planted']} planted bugs caught in {result['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
