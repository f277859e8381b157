"""`./dosebook faults`."""

import argparse
import asyncio
import re
import sys
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from engine.cli.layout import CLUSTER_PARTITIONS
from engine.settings import Acknowledge
from tests.faults import disks, outage, table
from tests.faults.campaign import Plan, Round, play
from tests.faults.strikes import CLASSES, CONTROL, FaultClass, without
from tests.faults.system import Ground, cluster_ground
from tests.faults.trouble import StoppedError

ROOT = Path(__file__).parents[2]
ROUNDS = 6
COLUMNS_MIN = 215
POLICIES = (Acknowledge.POSTGRES, Acknowledge.FSYNC, Acknowledge.REPLICA)


def main() -> int:
    """Exit status 1 where a promise was broken or the system did not come back."""
    args = _arguments()
    if args.readme:
        return _write_readme(args.history)
    if args.outage:
        return _play_outage(args)
    classes = _classes(args)
    if any(one.needs_small_disks for one in classes):
        disks.apart(["-m", "tests.faults", *sys.argv[1:]])
    try:
        rounds = _play(args, classes)
    except StoppedError:
        print("dosebook: stopped by a signal: the last round says nothing", file=sys.stderr)
        return 1
    if args.json:
        result = {"rounds": rounds, "table": table.summary(rounds)}
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _say(rounds, "this run")
    if not args.short and not args.control:
        _say(table.read(args.history), "all runs")
    return 0 if rounds and all(one.is_clean for one in rounds) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="dosebook faults")
    parser.add_argument(
        "--short", action="store_true", help="every class of a policy once, in its short form"
    )
    parser.add_argument("--rounds", type=int, help=f"every class once in each ({ROUNDS})")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--partitions", type=int, help=f"1; {CLUSTER_PARTITIONS} on a cluster")
    parser.add_argument("--policy", type=Acknowledge, choices=POLICIES, help="of all rounds (they go round)")
    parser.add_argument("--only", metavar="REGEX", help="the classes whose names it matches")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--bare", action="store_true", help="the classes that need Python alone")
    which.add_argument("--extra", action="store_true", help="the classes that need more")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--history", type=Path, default=ROOT / "var" / "faults-mixed.jsonl")
    parser.add_argument("--control", action="store_true", help="break promises on purpose: must exit with 1")
    parser.add_argument("--outage", type=float, metavar="MINUTES", help="Postgres away for so long")
    parser.add_argument("--readme", action="store_true", help="only write the tables of all rounds")
    return parser.parse_args()


def _classes(args: argparse.Namespace) -> tuple[FaultClass, ...]:
    """Those that were asked for and can be played here; says which cannot."""
    if args.control:
        return CONTROL
    wanted = [one for one in CLASSES if re.search(args.only or "", one.name)]
    if args.bare or args.extra:
        wanted = [one for one in wanted if (one.lacks is None) == args.bare]
    lacking = without(wanted)
    for name, words in lacking.items():
        print(f"left out: {name} ({words})", file=sys.stderr, flush=True)
    return tuple(one for one in wanted if one.name not in lacking)


def _play(args: argparse.Namespace, classes: tuple[FaultClass, ...]) -> list[Round]:
    policies = _policies(args)
    count = args.rounds or (1 if args.short or args.control else ROUNDS)
    rounds: list[Round] = []
    args.history.parent.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(range(args.seed, args.seed + count)):
        policy = policies[number % len(policies)]
        for plan in _plans(args, seed, policy, classes):
            words = "rigged: " if any(one.is_rigged for one in plan.classes) else ""
            words += f"{len(plan.classes)} faults, policy {policy}"
            print(f"round {number + 1} of {count}, seed {seed}, {words}", file=sys.stderr, flush=True)
            one = asyncio.run(play(plan, _tell))
            if not args.control:
                table.append(args.history, one)
            rounds.append(one)
    return rounds


def _policies(args: argparse.Namespace) -> tuple[Acknowledge, ...]:
    """Those of the rounds, which go round."""
    return (args.policy,) if args.policy else POLICIES


def _ground(args: argparse.Namespace, policy: Acknowledge) -> Ground:
    """A cluster where a replica must have what is told, else one Redis."""
    if policy is Acknowledge.REPLICA:
        return cluster_ground(args.partitions or CLUSTER_PARTITIONS)
    return Ground(args.partitions or 1, policy)


def _plans(
    args: argparse.Namespace, seed: int, policy: Acknowledge, classes: tuple[FaultClass, ...]
) -> list[Plan]:
    """A round on a plain system or a cluster, and one on a rigged system for what needs that."""
    plans = []
    for is_rigged in (False, True):
        mine = tuple(one for one in classes if policy in one.policies and one.is_rigged == is_rigged)
        if not mine:
            continue
        ground = msgspec.structs.replace(
            _ground(args, policy),
            has_small_disks=any(one.needs_small_disks for one in mine),
            has_own_clock=any(one.needs_own_clock for one in mine),
        )
        kept = args.history.with_name(f"faults-{seed}{'-rigged' if is_rigged else ''}-requests.jsonl")
        plans.append(Plan(seed, ground, mine, kept, args.short))
    return plans


def _play_outage(args: argparse.Namespace) -> int:
    policy = args.policy or Acknowledge.FSYNC
    kept = outage.beside(args.history)
    args.history.parent.mkdir(parents=True, exist_ok=True)
    one = asyncio.run(outage.play(args.outage, args.seed, _ground(args, policy), kept, _tell))
    table.append_outage(kept, one)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(one)) + b"\n")
    print(table.outages([one]))
    for finding in one.findings:
        print(finding)
    return 0 if one.is_clean else 1


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
        for finding in [*one.findings, *([f"stuck: {one.stuck}"] if one.stuck else [])]:
            console.print(f"seed {one.seed}: {finding}", markup=False, highlight=False)


def _write_readme(history: Path) -> int:
    rounds, kept = table.read(history), table.read_outages(outage.beside(history))
    if not rounds:
        print(f"dosebook: {history} has no rounds: run ./dosebook faults first", file=sys.stderr)
        return 1
    table.write_readme(rounds, kept)
    print(f"{len(rounds)} rounds and {len(kept)} outages into {table.README}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
