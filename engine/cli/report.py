"""The result of a run: one table for people, one JSON object for programs, and whether it is good.

The names of the JSON are fixed; programs read them. ``refused`` counts refused booking requests by reason
(one person may be refused several times), ``told`` counts people who left without a booking by what they were
told.
"""

from pathlib import Path

import msgspec
from rich import box
from rich.console import Console
from rich.table import Table

from engine.cli.display import counts, latency, number
from engine.cli.surge import Latency, Line


class Opened(msgspec.Struct, frozen=True):
    """What was on sale when the surge began."""

    locations: int
    sessions: int
    seats: int


class Http(msgspec.Struct, frozen=True):
    """The surge's requests; latencies in ms over the whole surge. ``shed_503`` are part of ``errors_5xx``."""

    requests: int
    rps: float
    p50_ms: float | None
    p99_ms: float | None
    errors_5xx: int
    shed_503: int
    routes: dict[str, Latency]


class Persist(msgspec.Struct, frozen=True):
    """Courses as counted in Postgres, and the time from an event to its commit in ms."""

    courses: int
    lag_p50_ms: float | None
    lag_p99_ms: float | None


class Report(msgspec.Struct, frozen=True):
    """The whole result. ``seconds`` is the surge's length, ``steps`` what each step of the start took."""

    locations: int
    sessions: int
    seats: int
    citizens: int
    booked: int
    refused: dict[str, int]
    http: Http
    persist: Persist
    audit: dict[str, int]
    seconds: float
    told: dict[str, int]
    answered: int
    unanswered: int
    acknowledged: int
    cancelled: int
    held: int
    confirmed: int
    moved: int
    not_moved: int
    second_doses_cancelled: int
    households: int
    households_asked: int
    first_attempts: int
    first_successes: int
    second_tries: int
    double_clicks: int
    double_click_conflicts: int
    book_again: int
    book_again_wrong: int
    unexpected: dict[str, int]
    no_answer: int
    asked_again: int
    line_p99_ms: float | None
    restarts: int
    steps: dict[str, float]

    @property
    def findings(self) -> list[str]:
        """What must not be; empty when all is well."""
        found = [f"audit: {name} {count}" for name, count in self.audit.items() if count]
        wrong = {
            "people stayed unanswered": self.unanswered,
            "double clicks got two answers": self.double_click_conflicts,
            "second bookings of a person were not refused": self.book_again_wrong,
            "answers were none of the protocol's": sum(self.unexpected.values()),
        }
        return found + [f"{count} {what}" for what, count in wrong.items() if count]

    def write(self, path: Path) -> None:
        """As JSON, readable."""
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n")


def report_of(
    line: Line,
    opened: Opened,
    persist: Persist,
    audit: dict[str, int],
    restarts: int,
    steps: dict[str, float],
) -> Report:
    """The report from what the surge counted, the audit and the persister's own figures."""
    return Report(
        locations=opened.locations,
        sessions=opened.sessions,
        seats=opened.seats,
        citizens=line.citizens,
        booked=line.booked,
        refused=line.refused,
        http=Http(
            requests=line.requests,
            rps=round(line.requests / line.seconds, 1) if line.seconds else 0.0,
            p50_ms=line.all_ms.p50,
            p99_ms=line.all_ms.p99,
            errors_5xx=line.errors_5xx,
            shed_503=line.shed,
            routes=line.routes_ms,
        ),
        persist=persist,
        audit=audit,
        seconds=line.seconds,
        told=line.told,
        answered=line.answered,
        unanswered=line.unanswered,
        acknowledged=line.acknowledged,
        cancelled=line.cancelled,
        held=line.held,
        confirmed=line.confirmed,
        moved=line.moved,
        not_moved=line.not_moved,
        second_doses_cancelled=line.second_doses_cancelled,
        households=line.households,
        households_asked=line.households_asked,
        first_attempts=line.first_attempts,
        first_successes=line.first_successes,
        second_tries=line.second_tries,
        double_clicks=line.double_clicks,
        double_click_conflicts=line.double_click_conflicts,
        book_again=line.book_again,
        book_again_wrong=line.book_again_wrong,
        unexpected=line.unexpected,
        no_answer=line.lost,
        asked_again=line.accepted,
        line_p99_ms=line.wait_ms.p99,
        restarts=restarts,
        steps=steps,
    )


def print_report(report: Report, console: Console) -> None:
    """The table, then the audit, each finding by name."""
    table = Table(
        title="the surge", title_justify="left", box=box.SIMPLE, show_header=False, title_style="bold"
    )
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, text in _rows(report):
        table.add_row(name, text)
    console.print(table)
    figures = " · ".join(f"{name.replace('_', ' ')} {count}" for name, count in report.audit.items())
    console.print(f"  audit   {figures}", style="red" if any(report.audit.values()) else "green")
    for finding in report.findings:
        console.print(f"  FOUND   {finding}", style="bold red")


def _rows(report: Report) -> list[tuple[str, str]]:
    http, persist = report.http, report.persist
    all_ms = Latency(http.p50_ms, http.p99_ms)
    first = report.first_successes / (report.first_attempts or 1)
    return [
        (
            "on sale",
            f"{report.seats:,} seats in {report.sessions:,} sessions of {report.locations:,} locations",
        ),
        ("people", f"{report.citizens:,} came, {report.answered:,} were answered in {report.seconds:.1f} s"),
        ("booked", f"{report.booked:,} booked both doses, {report.cancelled:,} of them cancelled afterwards"),
        (
            "of them",
            f"{report.confirmed:,} held first, {report.households:,} of {report.households_asked:,}"
            f" households, {report.moved:,} moved, {report.second_doses_cancelled:,} gave up the second dose",
        ),
        ("left without", counts(report.told)),
        ("refused requests", counts(report.refused)),
        (
            "tries",
            f"{first:.0%} had their first choice, {report.second_tries:,} second tries",
        ),
        (
            "requests",
            f"{http.requests:,} · {number(http.rps)}/s · {latency(all_ms)} · 5xx {http.errors_5xx:,}",
        ),
        *((route, latency(ms)) for route, ms in sorted(http.routes.items())),
        ("waited in line", f"p99 {number(report.line_p99_ms)} ms before being served"),
        (
            "in Postgres",
            f"{persist.courses:,} courses · lag p50 {number(persist.lag_p50_ms)} ms"
            f" · p99 {number(persist.lag_p99_ms)} ms",
        ),
        ("restarts", f"{report.restarts}"),
    ]
