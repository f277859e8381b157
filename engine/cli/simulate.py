"""`dosebook simulate`: the protocol under a scheduler that crashes, delays, duplicates and reorders."""

import argparse
import subprocess
import sys

from engine.cli.tasks import ROOT

SUMMARY = "play random histories of the protocol, and replay each against the real scripts"
DESCRIPTION = """\
Plays histories of the booking protocol under a seeded scheduler that crashes processes between any two steps,
loses replies, delays, repeats and reorders calls and moves clocks; judges every answer by the rules; and
replays each trace against the real scripts. The same seed gives the same trace and the same hash.

  ./dosebook simulate                                      20,000 histories
  ./dosebook simulate --histories 200000 --seed 1 --json simulation.json
  ./dosebook simulate --histories 1 --seed 1096            one history again

Other arguments: --processes N. Exit status 1 where a rule is broken or a replay differs.
"""
TAKES_MORE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments are the simulation's own (tests/simulation/__main__.py)."""


def run(args: argparse.Namespace) -> int:
    """The simulation's exit status."""
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *args.more], cwd=ROOT, check=False
    ).returncode
