"""`dosebook run` as a process, for tests: start it, find what belongs to it, read its result."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

ROOT = Path(__file__).parents[2]


@contextmanager
def running(*options: str) -> Iterator["subprocess.Popen[str]"]:
    """`dosebook run` with these options; killed at the end if it is still there."""
    # Descendants are recognised by this variable, wherever they were moved to.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DOSEBOOK_TEST_RUN": str(os.getpid())}
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.cli", "run", "--port", "0", *options],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def surge(citizens: int, data_dir: Path, result: Path, *more: str) -> dict[str, Any]:
    """One whole run; its result, after it has said that all is well."""
    options = ["--exit", "--citizens", str(citizens), "--data-dir", str(data_dir), "--json", str(result)]
    with running(*options, *more) as process:
        output, _ = process.communicate(timeout=90)
        assert process.returncode == 0, output
    found: dict[str, Any] = json.loads(result.read_bytes())
    return found


def descendants() -> dict[int, str]:
    """Command lines, by process id, of what carries the variable of `running`."""
    mark = f"DOSEBOOK_TEST_RUN={os.getpid()}".encode()
    found = {}
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environ.read_bytes().split(b"\0"):
                command = (environ.parent / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                found[int(environ.parent.name)] = command
        except OSError:
            continue
    return found


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that the account of Postgres can pass through, so that sockets lie in it and go with it."""
    with TemporaryDirectory(prefix="dosebook-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
