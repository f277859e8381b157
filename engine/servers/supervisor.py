"""Keeps named children running for an asyncio program, and leaves none behind.

    with DataDir.open(path) as data:
        async with Supervisor(data, on_event=show) as supervisor:
            redis = await supervisor.start(RedisServer(data))
            await supervisor.start(Command.module("persister", "engine.cli", "persist", data=data))
            await supervisor.wait()          # until a signal, or until a child gave up

Invariants: children start in order and stop in reverse order. One that ends by itself is started again on
the same data and socket, after a pause that doubles up to a bound; too many ends in a row and it is given
up. Not so a store, nor what has run steadily before: what ends them (a full disk, a store that is away) may
be mended hours later, so they are tried with the longest pause. The first SIGINT, SIGTERM or SIGHUP leaves
the `async with` block in order (`stopped_by` tells); the second kills everything and ends this process at
once. If this process is killed, the leash and the watchdog end the children.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self, TypeVar

from engine.servers.child import Child
from engine.servers.data_dir import DataDir
from engine.servers.errors import ServerError, ServerFailedError

WATCHDOG = Path(__file__).with_name("watchdog.py")
WATCHDOG_GRACE_S = 10.0
POLL_S = 0.02
RESTART_PAUSE_S_MIN = 0.1
RESTART_PAUSE_S_MAX = 5.0
# Ends in a row after which a child is given up; one that ran this long starts a new row, and never is.
RESTARTS_IN_A_ROW_MAX = 10
STEADY_S = 30.0
SHOW_CURSOR = "\x1b[?25h"

ChildT = TypeVar("ChildT", bound=Child)


class State(StrEnum):
    """What a child is doing."""

    STARTING = "starting"
    RUNNING = "running"
    RESTARTING = "restarting"
    ENDED = "ended"
    STOPPED = "stopped"
    GAVE_UP = "gave up"


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened to a child; `detail` is for people."""

    name: str
    state: State
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ChildStatus:
    """One line of the display."""

    name: str
    pid: int | None
    state: State
    restarts: int


@dataclass(slots=True)
class _Kept:
    """A child and what we know of it."""

    child: Child
    state: State = State.STARTING
    restarts: int = 0
    in_a_row: int = 0
    was_steady: bool = False
    running_since: float = 0.0
    watch: asyncio.Task[None] | None = field(default=None, repr=False)


class Supervisor:
    """Starts, watches and stops children. Enter it from the main thread, which must stay (see `leash.py`)."""

    def __init__(self, data: DataDir, *, on_event: Callable[[Event], None] | None = None) -> None:
        self.stopped_by: signal.Signals | None = None
        self._data = data
        self._on_event = on_event or (lambda event: None)
        self._kept: dict[str, _Kept] = {}
        self._leaving = False
        self._handlers: dict[signal.Signals, Any] = {}

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._owner = asyncio.current_task()
        self._gave_up: asyncio.Future[None] = self._loop.create_future()
        self._watchdog = _Watchdog(self._data)
        self._take_signals()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self._leaving = True
        if self.stopped_by is not None and kind is None:
            await self._swallow_pending_cancel()
        try:
            await self._stop_all()
        finally:
            self._give_signals_back()
            self._watchdog.close()
            self._gave_up.cancel()
        return self._was_signal(kind)

    async def start(self, child: ChildT) -> ChildT:
        """Start a child, or one that was stopped, and wait until it is ready; `ServerError` if it is not."""
        before = self._kept.get(child.name)
        if before is not None and before.state is not State.STOPPED:
            raise ValueError(f"two children are named {child.name}")
        kept = self._kept[child.name] = _Kept(child)
        self._tell(kept, State.STARTING)
        await self._launch(kept)
        kept.watch = asyncio.create_task(self._watch(kept), name=f"watch {child.name}")
        return child

    async def stop(self, name: str) -> None:
        """Stop one child, until it is started again."""
        await self._stop(self._kept[name])

    async def wait(self) -> None:
        """Wait until a signal leaves the block; raises `ServerFailedError` if a child was given up."""
        await asyncio.shield(self._gave_up)

    def status(self) -> list[ChildStatus]:
        """All children in the order of their start."""
        return [
            ChildStatus(name, kept.child.pid, kept.state, kept.restarts) for name, kept in self._kept.items()
        ]

    # Starting and watching

    async def _launch(self, kept: _Kept) -> None:
        """Prepare in a thread, start in this one (the leash counts threads), wait until ready."""
        child = kept.child
        await asyncio.to_thread(child.prepare)
        child.spawn()
        self._watchdog.add(child)
        deadline = time.monotonic() + child.ready_s_max
        while not await asyncio.to_thread(child.is_ready):
            child.check_start(deadline)
            await asyncio.sleep(POLL_S)
        kept.running_since = time.monotonic()
        self._tell(kept, State.RUNNING, f"process {child.pid}")

    async def _watch(self, kept: _Kept) -> None:
        """Start the child again each time it ends by itself, until it is given up."""
        while True:
            status = await self._ended(kept.child)
            self._clear(kept.child)
            if time.monotonic() - kept.running_since > STEADY_S:
                kept.in_a_row, kept.was_steady = 0, True
            if not kept.child.restart:
                return self._tell(kept, State.ENDED, f"status {status}")
            reason: str = f"ended by itself ({_describe(status)})"
            while not await self._restarted(kept, reason):
                if kept.state is State.GAVE_UP:
                    return None
                reason = "did not start"

    async def _ended(self, child: Child) -> int:
        while (status := child.poll()) is None:
            await asyncio.sleep(POLL_S)
        return status

    async def _restarted(self, kept: _Kept, reason: str) -> bool:
        """One more start after a pause; False if it failed or there were too many."""
        kept.in_a_row += 1
        gives_up = kept.child.gives_up and not kept.was_steady
        if gives_up and kept.in_a_row > RESTARTS_IN_A_ROW_MAX:
            self._give_up(kept, reason)
            return False
        doublings = min(kept.in_a_row - 1, RESTARTS_IN_A_ROW_MAX)
        pause_s = min(RESTART_PAUSE_S_MIN * 2**doublings, RESTART_PAUSE_S_MAX)
        self._tell(kept, State.RESTARTING, f"{reason}, next start in {pause_s:.1f} s")
        await asyncio.sleep(pause_s)
        kept.restarts += 1
        try:
            await self._launch(kept)
        except (ServerError, OSError) as error:
            self._clear(kept.child)
            self._tell(kept, State.RESTARTING, str(error))
            return False
        return True

    def _give_up(self, kept: _Kept, reason: str) -> None:
        failure = kept.child.failure(f"{reason}, {RESTARTS_IN_A_ROW_MAX} restarts in a row")
        self._tell(kept, State.GAVE_UP, str(failure))
        if not self._gave_up.done():
            self._gave_up.set_exception(ServerFailedError(str(failure)))
            # Somebody may never call `wait`; the event has told them.
            self._gave_up.exception()

    def _clear(self, child: Child) -> None:
        """End what an ended child left of its group, and take it off the watchdog's list."""
        child.kill()
        self._watchdog.remove(child)

    def _tell(self, kept: _Kept, state: State, detail: str = "") -> None:
        kept.state = state
        self._on_event(Event(kept.child.name, state, detail))

    # Stopping

    async def _stop_all(self) -> None:
        for kept in reversed(self._kept.values()):
            await self._stop(kept)

    async def _stop(self, kept: _Kept) -> None:
        """Ask, wait for its bound, then kill its group."""
        await _cancelled(kept.watch)
        child = kept.child
        child.ask_to_stop()
        deadline = time.monotonic() + child.stop_s_max
        while child.poll() is None and child.pid is not None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        child.kill()
        while child.pid is not None:
            await asyncio.sleep(POLL_S)
        self._watchdog.remove(child)
        if kept.state not in {State.ENDED, State.GAVE_UP}:
            self._tell(kept, State.STOPPED)

    # Signals

    def _take_signals(self) -> None:
        """Handlers of the process, not of the loop: a second Ctrl-C must work while the loop is busy."""
        if threading.current_thread() is not threading.main_thread():
            return
        for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signum is signal.SIGHUP and signal.getsignal(signum) is signal.SIG_IGN:
                continue  # nohup
            self._handlers[signum] = signal.signal(signum, self._signalled)

    def _give_signals_back(self) -> None:
        for signum, handler in self._handlers.items():
            signal.signal(signum, handler)

    def _signalled(self, signum: int, frame: FrameType | None) -> None:
        if self.stopped_by is not None:
            self._end_at_once(signum)
        self.stopped_by = signal.Signals(signum)
        self._loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        """Leave the block at its next await; while leaving already, a first signal changes nothing."""
        if not self._leaving and self._owner is not None:
            self._owner.cancel()

    def _end_at_once(self, signum: int) -> None:
        """Second signal: kill every group and go; the watchdog removes a temporary directory."""
        for kept in self._kept.values():
            kept.child.kill()
        if sys.stdout.isatty():
            os.write(sys.stdout.fileno(), SHOW_CURSOR.encode())
        os._exit(128 + signum)

    async def _swallow_pending_cancel(self) -> None:
        """The signal came as the block ended: its cancellation would hit our first await instead."""
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(POLL_S)

    def _was_signal(self, kind: type[BaseException] | None) -> bool:
        """Whether the block was left by our own cancellation, which ends here."""
        ours = self.stopped_by is not None and kind is asyncio.CancelledError
        if ours and self._owner is not None:
            self._owner.uncancel()
        return ours


class _Watchdog:
    """Our end of the pipe to `watchdog.py`, which acts when this process is gone."""

    def __init__(self, data: DataDir) -> None:
        directories = [str(path) for path in data.to_remove()]
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(WATCHDOG), str(WATCHDOG_GRACE_S), *directories],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )

    def add(self, child: Child) -> None:
        """List a child that was just started."""
        if child.pid is not None:
            self._write(f"+ {child.pid} {int(child.stop_signal)}\n")

    def remove(self, child: Child) -> None:
        """Take a child that is gone off the list."""
        if child.last_pid is not None:
            self._write(f"- {child.last_pid}\n")

    def close(self) -> None:
        """Let it end: nothing is listed any more."""
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()

    def _write(self, line: str) -> None:
        """A watchdog that somebody killed leaves the leash alone in charge."""
        if self._process.stdin is None:
            return
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line.encode())
            self._process.stdin.flush()


async def _cancelled(task: Awaitable[None] | None) -> None:
    """Cancel a task and wait until it is done."""
    if not isinstance(task, asyncio.Task):
        return
    task.cancel()
    await asyncio.wait([task])


def _describe(status: int) -> str:
    """Exit status in words."""
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"status {status}"
