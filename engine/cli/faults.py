"""`dosebook faults`: the whole system under load, struck again and again."""

import argparse
import subprocess
import sys

from engine.cli.tasks import ROOT

SUMMARY = "strike the running system with faults under load, and check every promise it made"
DESCRIPTION = """\
Starts Redis, Postgres, the persister and the API, loads them with hundreds of writers who book, repeat and
cancel, and strikes: kill -9, SIGSTOP, replies lost after execution. At the end an independent checker holds
what the writers were told against the rows in Postgres, and the audit compares the stores.

  ./dosebook faults                        every class of faults five times
  ./dosebook faults --short                each once, in a minute
  ./dosebook faults --rounds 20 --seed 7 --json faults.json
  ./dosebook faults --control              break promises on purpose, which must be found
  ./dosebook faults --readme               write the table of all runs into tests/faults/README.md

Other arguments: --partitions N, --history FILE (every run is added there, var/faults.jsonl). The same seed
strikes in the same order. Exit status 1 unless every figure is 0.
"""
TAKES_MORE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments are the harness's own (tests/faults/__main__.py)."""


def run(args: argparse.Namespace) -> int:
    """The harness's exit status."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *args.more], cwd=ROOT, check=False
    ).returncode
