"""`./dosebook faults`."""

import argparse
import asyncio
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from tests.faults import table
from tests.faults.campaign import Round, StuckError, play
from tests.faults.strikes import CLASSES, CONTROL

ROOT = Path(__file__).parents[2]
ROUNDS = 5
COLUMNS_MIN = 165


def main() -> int:
    """Exit status 1 where a promise was broken or the system did not come back."""
    parser = argparse.ArgumentParser(prog="dosebook faults")
    parser.add_argument("--short", action="store_true", help="one round, short stops")
    parser.add_argument("--rounds", type=int, help=f"every class once in each ({ROUNDS})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partitions", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--history", type=Path, default=ROOT / "var" / "faults.jsonl")
    parser.add_argument("--control", action="store_true", help="break promises on purpose: must exit with 1")
    parser.add_argument("--readme", action="store_true", help="only write the table of all rounds")
    args = parser.parse_args()
    if args.readme:
        return _write_readme(args.history)
    try:
        rounds = _play(args)
    except StuckError as stuck:
        print(f"dosebook: {stuck}", file=sys.stderr)
        return 1
    if args.json:
        result = {"rounds": rounds, "table": table.summary(rounds)}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _say(rounds, "this run")
    if not args.short and not args.control:
        _say(table.read(args.history), "all runs")
    return 0 if all(one.is_clean for one in rounds) else 1


def _play(args: argparse.Namespace) -> list[Round]:
    count = args.rounds or (1 if args.short or args.control else ROUNDS)
    classes = CONTROL if args.control else CLASSES
    rounds: list[Round] = []
    args.history.parent.mkdir(parents=True, exist_ok=True)
    for seed in range(args.seed, args.seed + count):
        print(f"round {len(rounds) + 1} of {count}, seed {seed}", file=sys.stderr, flush=True)
        kept = args.history.with_name(f"faults-{seed}-requests.jsonl")
        work = play(seed, args.partitions, _tell, kept, is_short=args.short, classes=classes)
        one = asyncio.run(work)
        if not args.control:
            table.append(args.history, one)
        rounds.append(one)
    return rounds


def _tell(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)


def _say(rounds: list[Round], title: str) -> None:
    rows = table.summary(rounds)
    shown = Table(title=title)
    for name in rows[0]:
        shown.add_column(name.replace("_", "\n"), no_wrap=True)
    for row in rows:
        shown.add_row(*(str(row.get(name, "")) for name in rows[0]))
    terminal = Console()
    console = Console(width=max(terminal.width, COLUMNS_MIN))
    console.print(shown)
    console.print(table.totals(rounds), highlight=False)
    for one in rounds:
        for finding in one.findings:
            console.print(f"seed {one.seed}: {finding}", markup=False, highlight=False)


def _write_readme(history: Path) -> int:
    rounds = table.read(history)
    if not rounds:
        print(f"dosebook: {history} has no rounds: run ./dosebook faults first", file=sys.stderr)
        return 1
    table.write_readme(rounds)
    print(f"{len(rounds)} rounds into {table.README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
