"""The tasks of `pyproject.toml` ([tool.dosebook.tasks]): read, run side by side, told in one line each.

A task whose program comes from a Debian package ([tool.dosebook.debian-packages]) and is not installed
is passed over and said so, unless it is asked for. `producer | program` feeds one with the other's output;
no shell is involved.
"""

import os
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Task:
    """A named command; `debian_package` is where its program comes from if no wheel brings it.

    `producer` is a command whose output it reads.
    """

    name: str
    argv: tuple[str, ...]
    debian_package: str | None = None
    producer: tuple[str, ...] = ()

    @property
    def is_missing(self) -> bool:
        """Whether its program is neither in the environment nor on PATH."""
        return program(self.argv[0]) is None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a task ended."""

    task: Task
    passed: bool
    seconds: float
    output: str


def read_tasks() -> list[Task]:
    """All tasks, in the order of the file."""
    settings = _settings()
    packages = settings["debian-packages"]
    return [_task(name, line, packages) for name, line in settings["tasks"].items()]


def missing_packages() -> dict[str, str]:
    """Programs that the extra suites need and this machine lacks, with their Debian packages."""
    packages = _settings()["debian-packages"]
    return {name: package for name, package in packages.items() if program(name) is None}


def run_tasks(tasks: list[Task]) -> list[Outcome]:
    """Run them side by side; outcomes in the given order."""
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        return list(pool.map(_run, tasks))


def program(name: str) -> str | None:
    """Path of a tool: the environment's own, else PATH's."""
    own = Path(sys.executable).parent / name
    return str(own) if own.exists() else shutil.which(name)


def _task(name: str, line: str, packages: dict[str, str]) -> Task:
    first, _, second = line.partition(" | ")
    argv = tuple(shlex.split(second or first))
    producer = tuple(shlex.split(first)) if second else ()
    return Task(name, argv, packages.get(argv[0]), producer)


def _run(task: Task) -> Outcome:
    started = time.monotonic()
    produced = _output_of(task.producer, "") if task.producer else (True, "")
    passed, output = _output_of(task.argv, produced[1]) if produced[0] else produced
    return Outcome(task, passed, time.monotonic() - started, output.strip())


def _output_of(argv: tuple[str, ...], read: str) -> tuple[bool, str]:
    """Whether a command succeeded, and what it said (errors too if it failed)."""
    path = program(argv[0])
    if path is None:
        return False, f"{argv[0]} is not installed"
    done = subprocess.run(
        [path, *argv[1:]], check=False, cwd=ROOT, input=read, capture_output=True, text=True
    )
    return done.returncode == 0, done.stdout if done.returncode == 0 else done.stdout + done.stderr


def _settings() -> dict[str, dict[str, str]]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        settings: dict[str, dict[str, str]] = tomllib.load(file)["tool"]["dosebook"]
    return settings
