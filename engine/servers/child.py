"""One child process: how to prepare, start, see that it is ready, and stop it.

Invariants: a child leads its own session (Ctrl-C on the terminal reaches only us, who then stop children
in order) and is on the leash (`leash.py`), so that it does not outlive us. A child that ends or is not
ready in time is a `ServerFailedError` with the end of its log.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.servers.account import Account
from engine.servers.errors import ServerFailedError

LEASH = Path(__file__).with_name("leash.py")
POLL_S = 0.01
LOG_TAIL_CHARS = 1500


@dataclass(frozen=True, slots=True)
class Launch:
    """What to run, under which account, with which inherited descriptors, and where its output goes."""

    argv: tuple[str, ...]
    log: Path
    env: Mapping[str, str]
    cwd: Path
    account: Account | None = None
    fds: tuple[int, ...] = ()


class Child(ABC):
    """A process that the supervisor, or a test, starts and stops. Subclasses say what and how."""

    stop_signal = signal.SIGTERM
    ready_s_max = 30.0
    stop_s_max = 15.0
    restart = True
    # Whether too many ends in a row are the end. Else it is started again and again, with the longest pause.
    gives_up = True

    def __init__(self, name: str) -> None:
        self.name = name
        self._process: subprocess.Popen[bytes] | None = None
        self._log: Path | None = None
        self._group_ended = False

    def prepare(self) -> None:
        """Blocking work before each start: make folders, take locks, clear what a dead process left."""
        return

    @abstractmethod
    def launch(self) -> Launch:
        """What to run. Called after `prepare`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it answers. Returns within a second and never raises."""

    def spawned(self) -> None:
        """Called once the process runs: release what was only held for it."""
        return

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def last_pid(self) -> int | None:
        """Process id of the last start, also after its end."""
        return self._process.pid if self._process else None

    def spawn(self) -> None:
        """Start the process. Call it from a thread that stays (see `leash.py`)."""
        launch = self.launch()
        account = "-" if launch.account is None else f"{launch.account.uid}:{launch.account.gid}"
        leash = [
            sys.executable,
            "-I",
            "-S",
            str(LEASH),
            str(os.getpid()),
            str(int(self.stop_signal)),
            account,
        ]
        try:
            with launch.log.open("ab") as log:
                self._process = subprocess.Popen(
                    [*leash, *launch.argv],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(launch.env),
                    cwd=launch.cwd,
                    pass_fds=launch.fds,
                    start_new_session=True,
                )
        finally:
            self.spawned()
        self._log = launch.log
        self._group_ended = False

    def poll(self) -> int | None:
        """Exit status if it has ended (negative: the signal), else None."""
        return self._process.poll() if self._process else None

    def ask_to_stop(self) -> None:
        """Send the polite signal."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)

    def kill(self) -> None:
        """Kill the whole group at once: the process and what it started.

        Once more after the process has ended, for what it left; then never again, since its number may by
        then be another program's.
        """
        if self._process is None or self._group_ended:
            return
        self._group_ended = self._process.poll() is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def failure(self, what: str) -> ServerFailedError:
        """The fault to raise for this child, with the end of its log."""
        tail = self._log.read_text(errors="replace")[-LOG_TAIL_CHARS:].strip() if self._log else ""
        return ServerFailedError(
            f"{self.name} {what}" + (f"; the end of {self._log}:\n{tail}" if tail else "")
        )

    def start(self) -> Self:
        """Prepare, start and wait until ready, for programs without an event loop (tests)."""
        self.prepare()
        self.spawn()
        deadline = time.monotonic() + self.ready_s_max
        while not self.is_ready():
            self.check_start(deadline)
            time.sleep(POLL_S)
        return self

    def check_start(self, deadline: float) -> None:
        """Raise if a starting process has ended, or if the deadline (monotonic) has passed."""
        status = self.poll()
        if status is not None:
            raise self.failure(f"ended with status {status} before it was ready")
        if time.monotonic() > deadline:
            self.kill()
            raise self.failure(f"was not ready after {self.ready_s_max:.0f} s")

    def stop(self) -> None:
        """Stop politely, then by force; returns when the process is gone."""
        if self._process is None:
            return
        self.ask_to_stop()
        try:
            self._process.wait(self.stop_s_max)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()
        self.kill()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
