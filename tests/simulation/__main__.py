"""`./dosebook simulate`."""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import msgspec
from rich.console import Console
from rich.progress import Progress

from tests.simulation.campaign import Shard, play_all

FINDINGS_SHOWN = 5


def main() -> int:
    """Exit status 1 where a history breaks a rule or a replay differs."""
    parser = argparse.ArgumentParser(prog="dosebook simulate")
    parser.add_argument("--histories", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    started = time.monotonic()
    shards = _play(args)
    result = _result(args, shards, time.monotonic() - started)
    if args.json:
        args.json.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
    _say(result)
    return 1 if result["violations"] or result["differences"] else 0


def _play(args: argparse.Namespace) -> list[Shard]:
    shards = []
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("histories", total=args.histories)
        for shard in play_all(args.histories, args.seed, args.processes):
            shards.append(shard)
            progress.advance(task, shard.histories)
    return sorted(shards, key=lambda shard: shard.first_seed)


def _result(args: argparse.Namespace, shards: list[Shard], seconds: float) -> dict[str, object]:
    findings = [finding for shard in shards for finding in shard.findings]
    return {
        "histories": sum(shard.histories for shard in shards),
        "seed": args.seed,
        "operations": sum(shard.operations for shard in shards),
        "violations": sum(finding.kind == "violation" for finding in findings),
        "differences": sum(finding.kind == "difference" for finding in findings),
        "findings": [msgspec.to_builtins(finding) for finding in findings[:FINDINGS_SHOWN]],
        "trace_hash": hashlib.sha256("".join(shard.digest for shard in shards).encode()).hexdigest(),
        "seconds": round(seconds, 1),
    }


def _say(result: dict[str, object]) -> None:
    console = Console()
    console.print(
        f"{result['histories']} histories, {result['operations']} operations, each replayed against the real "
        f"scripts: {result['violations']} violations, {result['differences']} differences "
        f"({result['seconds']} s, trace {str(result['trace_hash'])[:16]})"
    )
    for finding in result["findings"]:  # type: ignore[attr-defined]  # a list, see _result
        console.print(f"seed {finding['seed']}: {finding['kind']}: {finding['words']}", markup=False)


if __name__ == "__main__":
    sys.exit(main())
