"""The surge as a child process: starts `loadtests.surge`, reads the lines that it prints.

It is known by its command line and its JSON lines only, so the engine imports nothing of it. Its log file is
its standard output: lines that are not JSON objects are notes for people (a traceback, say).
"""

import contextlib
from pathlib import Path

import msgspec

from engine.servers.command import Command
from engine.servers.data_dir import DataDir

NAME = "surge"


class Latency(msgspec.Struct, frozen=True):
    """Milliseconds; None where nothing was measured."""

    p50: float | None = None
    p99: float | None = None


class Line(msgspec.Struct, frozen=True):
    """What a surge has counted so far; the last line has ``end``."""

    seconds: float = 0.0
    citizens: int = 0
    arrived: int = 0
    waiting: int = 0
    in_flight: int = 0
    answered: int = 0
    unanswered: int = 0
    registered: int = 0
    searches: int = 0
    booked: int = 0
    cancelled: int = 0
    held: int = 0
    confirmed: int = 0
    moved: int = 0
    not_moved: int = 0
    second_doses_cancelled: int = 0
    households: int = 0
    households_asked: int = 0
    told: dict[str, int] = {}
    refused: dict[str, int] = {}
    first_attempts: int = 0
    first_successes: int = 0
    second_tries: int = 0
    double_clicks: int = 0
    double_click_conflicts: int = 0
    book_again: int = 0
    book_again_wrong: int = 0
    acknowledged: int = 0
    requests: int = 0
    errors_5xx: int = 0
    shed: int = 0
    lost: int = 0
    accepted: int = 0
    unexpected: dict[str, int] = {}
    interval_ms: Latency = Latency()
    interval_booking_ms: Latency = Latency()
    all_ms: Latency = Latency()
    routes_ms: dict[str, Latency] = {}
    wait_ms: Latency = Latency()
    end: bool = False
    failed: bool = False


class Surge:
    """A surge that is under way: `child` is for the supervisor, `read` gives what it has printed since."""

    def __init__(self, url: str, citizens: int, run: int, seed: int, acks: Path, data: DataDir) -> None:
        options = {"--url": url, "--citizens": citizens, "--run": run, "--seed": seed, "--acks": acks}
        argv = [str(part) for option in options.items() for part in option]
        self.child = Command.module(NAME, "loadtests.surge", *argv, data=data)
        # One that ended is not begun again: its people would come twice.
        self.child.restart = False
        self.last = Line(citizens=citizens)
        self.notes: list[str] = []
        self._log = data.log_of(NAME)
        self._offset = self._log.stat().st_size if self._log.exists() else 0
        self._rest = b""

    def read(self) -> list[Line]:
        """The lines since the last call, oldest first; `last` is the latest of them."""
        lines = [line for text in self._texts() if (line := self._line(text)) is not None]
        if lines:
            self.last = lines[-1]
        return lines

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.child.poll() is not None

    def _texts(self) -> list[bytes]:
        """Whole lines that were added to the log; an unfinished one waits for its end."""
        with contextlib.suppress(FileNotFoundError), self._log.open("rb") as log:
            log.seek(self._offset)
            added = log.read()
            self._offset += len(added)
            *whole, self._rest = (self._rest + added).split(b"\n")
            return whole
        return []

    def _line(self, text: bytes) -> Line | None:
        if not text.startswith(b"{"):
            self.notes.append(text.decode("utf-8", "replace"))
            return None
        return msgspec.json.decode(text, type=Line)
