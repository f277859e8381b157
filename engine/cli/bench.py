"""`dosebook bench`: how close to the limit, as ratios within one run."""

import argparse
import subprocess
import sys

from engine.cli.tasks import ROOT

SUMMARY = "measure: booking against a no-op route, batched take against an empty script"
DESCRIPTION = """\
Starts the whole system on this machine and measures ratios within one run: the booking route against a no-op
route of the same app, and a batch of bookings in Redis against an empty script. Medians of five rounds.

  ./dosebook bench
  ./dosebook bench --json bench.json

benchmarks/README.md says what is compared and what was found.
"""
TAKES_MORE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments are the benchmarks' own (benchmarks/__main__.py)."""


def run(args: argparse.Namespace) -> int:
    """The benchmarks' exit status."""
    return subprocess.run([sys.executable, "-m", "benchmarks", *args.more], cwd=ROOT, check=False).returncode
