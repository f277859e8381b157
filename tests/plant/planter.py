"""Plants one bug at a time in a copy of the tree and runs the suites that must see it.

The tree itself is never changed. A bug counts as caught only if its suites fail by themselves (pytest's exit
status 1, no error in a fixture): a suite that cannot be set up proves nothing. ``StaleBug`` where the text to
change is not there exactly once: then the list is to be mended, or the bug has become impossible.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from tests.plant.bugs import Bug

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv", "var", ".git", ".github", "__pycache__", ".*_cache", ".hypothesis")
NO_BUG = "(no bug)"
TESTS_FAILED = 1
SETUP_FAILED = "\nERROR tests/"
RUN_S_MAX = 60.0
# A test that waits for what the bug prevents ends by this, which counts as a failure.
TEST_S_MAX = 15
# Many suites, without a bug: on a slow machine a test may take its time here.
CONTROL_S_MAX = 300.0
CONTROL_TEST_S_MAX = 60


class StaleBug(Exception):
    """The text of a planted bug is not in its file exactly once; the message says which and where."""


class Verdict(msgspec.Struct, frozen=True):
    """What the suites said: ``caught``, ``missed``, ``stale`` or ``broken`` (they could not run)."""

    name: str
    why: str
    verdict: str
    seconds: float
    words: str = ""


def plant(tree: Path, bug: Bug) -> None:
    """Change the file. Raises ``StaleBug``."""
    path = tree / bug.file
    text = path.read_text() if path.exists() else ""
    count = text.count(bug.old)
    if count != 1:
        raise StaleBug(f"{bug.name}: {bug.file} has the text to change {count} times, not once: {bug.old!r}")
    path.write_text(text.replace(bug.old, bug.new))


@contextmanager
def copied(root: Path = ROOT) -> Iterator[Path]:
    """A copy of the tree, without what tools leave in it. Removed at the end."""
    with TemporaryDirectory(prefix="dosebook-plant-") as folder:
        tree = Path(folder) / "tree"
        shutil.copytree(root, tree, ignore=LEFT_OUT)
        yield tree


def run_suites(
    tree: Path, suites: Iterable[str], s_max: float = RUN_S_MAX, test_s_max: int = TEST_S_MAX
) -> tuple[int, str]:
    """Pytest's exit status and the last of its output; a run that does not end in time has status -1."""
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "--no-header", "--timeout", str(test_s_max)]
    # One server shows these bugs as well, and a cluster for each of them takes time.
    command += ["-k", "not three-masters"]
    environment = {**os.environ, "PYTHONPATH": str(tree), "DOSEBOOK_SUITE": "all"}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *suites],
            cwd=tree,
            env=environment,
            timeout=s_max,
            capture_output=True,
            text=True,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return -1, f"did not end in {s_max:.0f} s"
    return done.returncode, (done.stdout + done.stderr)[-2000:]


def judge(bug: Bug) -> Verdict:
    """Plant a bug in a fresh copy and see whether its suites notice."""
    began = time.monotonic()
    with copied() as tree:
        try:
            plant(tree, bug)
        except StaleBug as stale:
            return Verdict(bug.name, bug.why, "stale", 0.0, str(stale))
        status, output = run_suites(tree, bug.suites)
    seconds = round(time.monotonic() - began, 1)
    if status == TESTS_FAILED and SETUP_FAILED not in output:
        return Verdict(bug.name, bug.why, "caught", seconds)
    return Verdict(bug.name, bug.why, "missed" if status == 0 else "broken", seconds, output)


def parts_of(bugs: Iterable[Bug], most: int) -> list[list[str]]:
    """All suites of these bugs, each once, in at most so many parts; those of one file are in one part."""
    files: defaultdict[str, list[str]] = defaultdict(list)
    for suite in sorted({suite for bug in bugs for suite in bug.suites}):
        files[suite.partition("::")[0]].append(suite)
    of_files = list(files.values())
    parts = (of_files[at::most] for at in range(most))
    return [[suite for of_file in part for suite in of_file] for part in parts if part]


def control(suites: Iterable[str]) -> Verdict:
    """Suites on the tree as it is: they must pass, or a failure would prove nothing."""
    began = time.monotonic()
    with copied() as tree:
        status, output = run_suites(tree, suites, CONTROL_S_MAX, CONTROL_TEST_S_MAX)
    verdict = "passes" if status == 0 else "broken"
    seconds = round(time.monotonic() - began, 1)
    return Verdict(NO_BUG, "the suites pass", verdict, seconds, "" if status == 0 else output)
