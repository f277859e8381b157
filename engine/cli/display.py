"""What people see of a run: steps with their times, notes, the live figures of a surge.

On a terminal the figures stand in one place and change twice a second; elsewhere they are plain lines every
few seconds. Nothing personal is shown, only counts.
"""

import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.cli.surge import Latency, Line
from engine.servers.supervisor import ChildStatus, Event, State

PLAIN_LINE_EVERY_S = 5.0
RATE_OVER_LINES = 4
SPARKS = "▁▂▃▄▅▆▇█"
SPARKS_SHOWN = 60
WIDTH_MAX = 100
TOLD_EVENTS = {State.RESTARTING, State.GAVE_UP}


class Outbox(msgspec.Struct, frozen=True):
    """What the persister says of itself: events waiting, lag in ms; None while it does not answer."""

    backlog: float | None = None
    lag_p50_ms: float | None = None
    lag_p99_ms: float | None = None


class Display:
    """Prints the steps of a run."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self.steps: dict[str, float] = {}

    def say(self, text: str, style: str = "") -> None:
        """One line."""
        self.console.print(Text(text, style=style))

    def event(self, event: Event) -> None:
        """A child that ends by itself is worth a line; the rest is in the table of processes."""
        if event.state in TOLD_EVENTS:
            # What follows the first line is the end of a log, which is in the data directory.
            self.say(f"  {event.name}: {event.state}, {event.detail.splitlines()[0]}", "yellow")

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """A step of the start, with the time that it took."""
        began = time.monotonic()
        if self.console.is_terminal:
            with self.console.status(name):
                yield
        else:
            yield
        self.steps[name] = round(time.monotonic() - began, 2)
        self.console.print(
            Text.assemble(("  ✓ ", "green"), f"{name:<44}", (f"{self.steps[name]:6.2f} s", "dim"))
        )

    @contextmanager
    def bar(self, name: str, total: int) -> Iterator[Progress]:
        """A progress bar with one task, its number 0."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        on_terminal = self.console.is_terminal
        with Progress(*columns, console=self.console, transient=True, disable=not on_terminal) as progress:
            progress.add_task(name, total=total)
            yield progress


class SurgeDisplay:
    """The live figures of a surge. Use as a context manager, call `show` for each line that came."""

    def __init__(self, display: Display, citizens: int) -> None:
        self._console = display.console
        self._citizens = citizens
        self._recent: deque[Line] = deque(maxlen=RATE_OVER_LINES + 1)
        self._rates: deque[float] = deque(maxlen=SPARKS_SHOWN)
        self._best = 0.0
        self._plain_at = 0.0
        self._live = Live(console=self._console, auto_refresh=False) if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, line: Line, outbox: Outbox, children: Sequence[ChildStatus]) -> None:
        """Another line: the figures change."""
        self._recent.append(line)
        rate = self._rate()
        self._rates.append(rate)
        self._best = max(self._best, rate)
        if self._live is not None:
            self._live.update(self._panel(line, outbox, children), refresh=True)
        elif line.seconds >= self._plain_at:
            self._plain_at = line.seconds + PLAIN_LINE_EVERY_S
            self._console.print(plain(line, rate, outbox))

    @property
    def _width(self) -> int:
        return min(self._console.width, WIDTH_MAX)

    def _rate(self) -> float:
        """Bookings a second over the last lines."""
        first, last = self._recent[0], self._recent[-1]
        passed = last.seconds - first.seconds
        return (last.booked - first.booked) / passed if passed > 0 else 0.0

    def _panel(self, line: Line, outbox: Outbox, children: Sequence[ChildStatus]) -> Panel:
        title = f"the evening of 12 July 2021 · {self._citizens:,} people · {line.seconds:.0f} s"
        return Panel(
            Group(
                self._people(line),
                Text(),
                self._bookings(),
                _figures(line, outbox),
                Text(),
                _processes(children),
            ),
            title=title,
            title_align="left",
            width=self._width,
        )

    def _people(self, line: Line) -> Table:
        table = Table.grid(padding=(0, 2))
        width = max(10, self._width - 52)
        for name, count in (("arrived", line.arrived), ("answered", line.answered)):
            bar = ProgressBar(total=self._citizens, completed=count, width=width)
            told = f"{line.waiting:,} in line" if name == "arrived" else f"{line.in_flight:,} being served"
            table.add_row(Text(name, "dim"), bar, f"{count:>9,}", Text(told, "dim"))
        return table

    def _bookings(self) -> Text:
        shown = list(self._rates)[-max(8, self._width - 42) :]
        return Text.assemble(
            ("bookings/s  ", "dim"),
            (f"{self._rates[-1]:>7,.0f}  ", "bold"),
            (sparkline(shown, self._best), "cyan"),
            (f"  most {self._best:,.0f}", "dim"),
        )


def sparkline(values: Sequence[float], most: float) -> str:
    """One character a value, its height in proportion to ``most``."""
    steps = len(SPARKS) - 1
    return "".join(
        SPARKS[round(max(0.0, value) / most * steps)] if most > 0 else SPARKS[0] for value in values
    )


def number(value: float | None, unit: str = "") -> str:
    """For people; a dash where nothing was measured."""
    if value is None:
        return "–"
    return (f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}") + unit


def latency(ms: Latency) -> str:
    """Median and 99th percentile."""
    return f"p50 {number(ms.p50)} ms · p99 {number(ms.p99)} ms"


def counts(by_reason: dict[str, int]) -> str:
    """Reasons with their counts, most frequent first."""
    ranked = sorted(by_reason.items(), key=lambda item: (-item[1], item[0]))
    return " · ".join(f"{reason} {count:,}" for reason, count in ranked) or "none"


def first_try_share(line: Line) -> str:
    """The share of people whose first attempt was booked."""
    return f"{line.first_successes / line.first_attempts:.0%}" if line.first_attempts else "–"


def plain(line: Line, rate: float, outbox: Outbox) -> str:
    """The figures as one line, for logs."""
    people = f"arrived {line.arrived:,}  answered {line.answered:,}  booked {line.booked:,}"
    return (
        f"  {line.seconds:5.1f} s  {people}"
        f" ({rate:,.0f}/s)  refused: {counts(line.refused)}  {latency(line.interval_ms)}"
        f"  5xx {line.errors_5xx}  backlog {number(outbox.backlog)}  lag p99 {number(outbox.lag_p99_ms)} ms"
    )


def _figures(line: Line, outbox: Outbox) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    tries = f"first attempts that succeeded {first_try_share(line)} · second tries {line.second_tries:,}"
    waits = f"backlog {number(outbox.backlog)} events · lag p50 {number(outbox.lag_p50_ms)} ms"
    for name, text in (
        ("booked", f"{line.booked:,} · {tries}"),
        ("refused", counts(line.refused)),
        ("left", counts(line.told)),
        ("requests", f"{latency(line.interval_ms)} · {line.requests:,} in all"),
        ("bookings", f"{latency(line.interval_booking_ms)} (last half second)"),
        ("trouble", f"5xx {line.errors_5xx:,} · no answer {line.lost:,} · asked again {line.accepted:,}"),
        ("outbox", f"{waits} · p99 {number(outbox.lag_p99_ms)} ms"),
    ):
        table.add_row(name, text)
    return table


def _processes(children: Sequence[ChildStatus]) -> Table:
    table = Table.grid(padding=(0, 3))
    for child in children:
        state = Text(str(child.state), "green" if child.state is State.RUNNING else "yellow")
        restarts = f"{child.restarts} restart{'s' * (child.restarts != 1)}" if child.restarts else ""
        table.add_row(Text(child.name, "dim"), state, f"{child.pid or '–'}", Text(restarts, "yellow"))
    return table
