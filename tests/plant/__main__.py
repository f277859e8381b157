"""`./dosebook plant`."""

import argparse
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.plant.bugs import BUGS, Bug
from tests.plant.planter import Verdict, control, judge


def main() -> int:
    """Exit status 1 unless every bug is caught by suites that pass without it."""
    parser = argparse.ArgumentParser(prog="dosebook plant")
    parser.add_argument("names", nargs="*", help="some of the bugs, by part of their name")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    bugs = [bug for bug in BUGS if not args.names or any(name in bug.name for name in args.names)]
    if not bugs:
        print(f"dosebook: no bug is named so; there are: {', '.join(bug.name for bug in BUGS)}")
        return 1
    verdicts = _judge_all(bugs)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(_result(verdicts))) + b"\n")
    _say(verdicts)
    return 0 if all(one.verdict in {"caught", "passes"} for one in verdicts) else 1


def _judge_all(bugs: list[Bug]) -> list[Verdict]:
    verdicts = [control(bugs)]
    if verdicts[0].verdict != "passes":
        return verdicts
    console = Console(stderr=True)
    with console.status("") as status:
        for bug in bugs:
            status.update(f"{len(verdicts)} of {len(bugs)}: {bug.name}")
            verdicts.append(judge(bug))
    return verdicts


def _result(verdicts: list[Verdict]) -> dict[str, object]:
    planted = verdicts[1:]
    return {
        "planted": len(planted),
        "caught": sum(one.verdict == "caught" for one in planted),
        "seconds": round(sum(one.seconds for one in verdicts), 1),
        "bugs": [msgspec.to_builtins(one) for one in verdicts],
    }


def _say(verdicts: list[Verdict]) -> None:
    console, table = Console(), Table("bug", "verdict", "s", "what it would do")
    for one in verdicts:
        table.add_row(one.name, one.verdict, f"{one.seconds:.1f}", one.why)
    console.print(table)
    for one in verdicts:
        if one.words:
            console.print(f"\n{one.name}: {one.verdict}\n{one.words}", markup=False, highlight=False)
    result = _result(verdicts)
    console.print(f"{result['caught']} of {result['planted']} planted bugs caught in {result['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
