"""`dosebook test`: `check`, then the suite; pytest's own summary is the last line."""

import argparse
import os
import subprocess
import sys

from engine.cli.check import check
from engine.cli.tasks import ROOT, missing_packages, read_tasks

SUMMARY = "check, then the test suite on real Redis and Postgres"
DESCRIPTION = """\
Runs `dosebook check` and then the whole suite on servers that it starts itself. Other arguments go to
pytest as they are, and leave the checks out:

  ./dosebook test                        everything that needs nothing but Python
  ./dosebook test tests/servers -x       one folder, stop at the first failure
  ./dosebook test -k restart             by name
  ./dosebook test --all                  also what needs Debian packages (it names those that are missing)
  ./dosebook test --extra                only what needs Debian packages

tests/README.md says which folder holds what.
"""
TAKES_MORE = True

# Read by tests/conftest.py, which leaves out the tests of the other suite.
SUITE = "DOSEBOOK_SUITE"
NO_TESTS_COLLECTED = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which suites; all else is pytest's."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="also the suites that need Debian packages")
    which.add_argument("--extra", action="store_true", help="only the suites that need Debian packages")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if packages are missing or a check failed, else pytest's."""
    missing = missing_packages() if args.all or args.extra else {}
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        print(f"dosebook: missing {', '.join(missing)}: sudo apt-get install {packages}", file=sys.stderr)
        return 1
    if args.extra:
        return _extra(args.more)
    # A failed check does not hide what the tests say.
    checked = 0 if args.more else check(read_tasks())
    tested = _pytest("all" if args.all else "main", args.more or ["-n", "auto", "--dist", "worksteal"])
    return tested or checked


def _extra(more: list[str]) -> int:
    """The tasks and tests that need packages; a suite that has no such test yet is no failure."""
    checked = check([task for task in read_tasks() if task.debian_package])
    tested = _pytest("extra", more)
    return checked or (0 if tested == NO_TESTS_COLLECTED else tested)


def _pytest(suite: str, arguments: list[str]) -> int:
    """Run pytest from the root on our terminal; paths are meant from there."""
    command = [sys.executable, "-m", "pytest", *arguments]
    sys.stdout.flush()
    return subprocess.run(command, check=False, cwd=ROOT, env={**os.environ, SUITE: suite}).returncode
