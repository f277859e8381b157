"""`dosebook faults`: the whole system under load, struck again and again."""

import argparse
import subprocess
import sys

from engine.cli.tasks import ROOT

SUMMARY = "strike the running system with faults under load, and check every promise it made"
DESCRIPTION = """\
Starts Redis, Postgres, the persister and the API, loads them with hundreds of writers who book, repeat and
cancel, and strikes: kill -9, SIGSTOP, lost replies, a Redis that comes back empty, older or cut, slow,
failing and full disks, a clock that is set; on a cluster, masters that are killed, replaced, frozen or lost
with their disks, and their replicas. At the end an independent checker holds what the writers were
told against the rows in Postgres, and the audit compares the stores.

  ./dosebook faults                        six rounds, the policies postgres, fsync and replica by turns
  ./dosebook faults --short                every class of one Redis once, in two minutes
  ./dosebook faults --short --policy replica    those of a cluster of three masters and their replicas
  ./dosebook faults --rounds 14 --seed 7 --json faults.json
  ./dosebook faults --only 'disk|clock' --policy fsync
  ./dosebook faults --control              break promises on purpose, which must be found
  ./dosebook faults --outage 60            Postgres away for an hour, under a moderate load
  ./dosebook faults --readme               write the tables of all runs into tests/faults/README.md

Slow and failing disks need strace, the clock needs faketime, full disks need root: what cannot be played here
is named and left out. Other arguments: --bare (the classes that need Python alone), --extra (the others),
--partitions N, --history FILE (every run is added there, var/faults.jsonl). The same seed strikes in the same
order. Exit status 1 unless every figure is 0.
"""
TAKES_MORE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments are the harness's own (tests/faults/__main__.py)."""


def run(args: argparse.Namespace) -> int:
    """The harness's exit status."""
    return subprocess.run(
        [sys.executable, "-m", "tests.faults", *args.more], cwd=ROOT, check=False
    ).returncode
