"""`dosebook plant`: bugs are planted one by one in a copy of the tree; the suites must see each."""

import argparse
import subprocess
import sys

from engine.cli.tasks import ROOT

SUMMARY = "plant known bugs in a copy of the tree, and see that the suites catch each"
DESCRIPTION = """\
For each bug of tests/plant/bugs.py: copies the tree, makes the one change, runs the suites that must see it.
The tree itself stays as it is. First the same suites run without a bug, and must pass.

  ./dosebook plant                         all of them
  ./dosebook plant tombstone generation    those with such a name
  ./dosebook plant --json plant.json

Exit status 1 unless every bug is caught. A bug whose text is no longer in the tree is told as stale.
"""
TAKES_MORE = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """All arguments are the planter's own (tests/plant/__main__.py)."""


def run(args: argparse.Namespace) -> int:
    """The planter's exit status."""
    return subprocess.run([sys.executable, "-m", "tests.plant", *args.more], cwd=ROOT, check=False).returncode
