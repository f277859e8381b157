"""A whole program under signals: an orderly end, an end at once, and an end nobody could prepare for."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.servers.processes import family, lives, wait_until

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("programs") / "supervised.py"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


class Program:
    """The running program: what it said, and every process of its tree."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        first = self.says()
        self.pids: dict[str, int] = first["pids"]
        self.data = Path(first["data"])
        self.tree = family(process.pid) | set(self.pids.values())

    def says(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the program ended without a word"
        said: dict[str, Any] = json.loads(line)
        return said

    def wait_until_all_gone(self) -> None:
        wait_until(lambda: not any(lives(pid) for pid in self.tree), "every process of the tree is gone")


@contextmanager
def running(*arguments: str) -> Iterator[Program]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(PROGRAM), *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_stops_in_reverse_order(signum: signal.Signals) -> None:
    with running() as program:
        program.process.send_signal(signum)
        assert [program.says() for _ in range(3)] == [
            {"stopped": "worker"},
            {"stopped": "postgres"},
            {"stopped": "redis"},
        ]
        assert program.says() == {"stopped_by": signum}
        assert program.process.wait(5) == 0
        program.wait_until_all_gone()
        assert not program.data.exists()


def test_second_signal_ends_everything_at_once() -> None:
    with running("--stubborn") as program:
        program.process.send_signal(signal.SIGTERM)
        program.process.send_signal(signal.SIGINT)
        assert program.process.wait(5) in {128 + signal.SIGINT, 128 + signal.SIGTERM}
        program.wait_until_all_gone()
        wait_until(lambda: not program.data.exists(), "the temporary directory is removed")


def test_killed_parent_leaves_no_orphan() -> None:
    with running() as program:
        assert len(program.tree) > len(program.pids) + 1, "Postgres has processes of its own"
        program.process.kill()
        program.wait_until_all_gone()
        wait_until(lambda: not program.data.exists(), "the temporary directory is removed")


def test_killed_parent_and_watchdog_leave_servers_to_the_leash() -> None:
    with running() as program:
        ours = set(program.pids.values())
        watchdog = next(pid for pid in program.tree if "watchdog.py" in command_line(pid))
        os.kill(watchdog, signal.SIGKILL)
        program.process.kill()
        wait_until(lambda: not any(lives(pid) for pid in ours - {program.pids["grandchild"]}), "servers gone")
        os.kill(program.pids["grandchild"], signal.SIGKILL)
        program.wait_until_all_gone()
        shutil.rmtree(program.data)


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
