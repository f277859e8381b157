"""The checker: what clients were told against Postgres' rows. Pure, and written from the promises alone.

It shares no code with the engine or its audit. A finding is a broken promise. What the protocol itself leaves
open is counted apart as ``exposed``: a copy that never got any answer may book after a later copy of the same
key was refused (PROTOCOL.md, "What a caller is told").
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from tests.faults.history import Op, Seat

FIGURES = (
    "lost",
    "oversold",
    "double_booked",
    "half_courses",
    "refused_yet_booked",
    "answered_differently",
    "sequence_gaps",
)
DOSES = (1, 2)
Size = tuple[int, int]


class CourseRow(msgspec.Struct, frozen=True):
    """A course as Postgres has it; ``op_key`` is the part of its op that the idempotency key determines."""

    person: str
    generation: int
    location: int
    is_live: bool
    op_key: str
    seats: tuple[Seat, ...]
    live_seats: tuple[Seat, ...]


class Finding(msgspec.Struct, frozen=True):
    """A broken promise; ``at_s`` when the client learned the other thing, if it was a client's."""

    figure: str
    words: str
    at_s: float | None = None


class Outbox(msgspec.Struct, frozen=True):
    """A partition's stream at the end: the sequences still in it, its last one, Postgres' watermark."""

    partition: int
    sequences: Sequence[int]
    last: int
    watermark: int


class Checked(msgspec.Struct, frozen=True):
    """What was found, and how often the protocol's known exposure was met."""

    findings: list[Finding]
    exposed: int


def check(ops: Sequence[Op], rows: Sequence[CourseRow], sizes: Mapping[int, Size]) -> Checked:
    """Hold a history against the rows. ``sizes``: session → (slots, lines)."""
    findings = [
        *_lost(ops, rows),
        *_oversold_rows(rows, sizes),
        *_double_booked_rows(rows),
        *_half_courses(rows),
        *_held_twice(ops),
        *_answered_differently(ops),
    ]
    refused, exposed = _refused_yet_booked(ops, rows)
    return Checked(findings + refused, exposed)


def check_outboxes(
    outboxes: Iterable[Outbox], rows: Sequence[CourseRow], quarantined: int, past: int = 0
) -> list[Finding]:
    """No gap: in the streams, up to Postgres' watermark, and against the number of things that happened.

    ``past``: events that Postgres had of epochs that ended with a rebuild.
    """
    found, events = [], quarantined - past
    for outbox in outboxes:
        gaps = [(a, b) for a, b in pairwise(outbox.sequences) if b != a + 1]
        ends_elsewhere = bool(outbox.sequences) and outbox.sequences[-1] != outbox.last
        if gaps or ends_elsewhere or outbox.watermark != outbox.last:
            words = f"gaps {gaps[:3]}, last {outbox.last}, watermark {outbox.watermark}"
            found.append(Finding("sequence_gaps", f"partition {outbox.partition}: {words}"))
        events -= outbox.watermark + 1
    events += len(rows) + sum(not row.is_live for row in rows)
    if events:
        words = f"Postgres tells of {abs(events)} events {'more' if events > 0 else 'less'} than it has seen"
        found.append(Finding("sequence_gaps", words))
    return found


def _bookings(ops: Sequence[Op]) -> list[Op]:
    return [op for op in ops if op.act == "book" and op.outcome == "ok"]


def _lost(ops: Sequence[Op], rows: Sequence[CourseRow]) -> Iterator[Finding]:
    """Acknowledged bookings that are absent, different, or undone unasked; cancellations that are undone."""
    by_course = {(row.person, row.generation): row for row in rows}
    asked = {(op.person, op.generation) for op in ops if op.act == "cancel"}
    for op in _bookings(ops):
        row = by_course.get((op.person, op.generation))
        if row is None:
            yield Finding("lost", f"booking {_name(op)} was acknowledged and is nowhere", op.answered_s)
        elif (row.location, sorted(row.seats)) != (op.location, sorted(op.seats)):
            yield Finding("lost", f"booking {_name(op)} was told {op.seats}, is {row.seats}", op.answered_s)
        elif not row.is_live and (op.person, op.generation) not in asked:
            yield Finding("lost", f"booking {_name(op)} was cancelled, nobody asked", op.answered_s)
    for op in ops:
        if op.act != "cancel":
            continue
        row = by_course.get((op.person, op.generation))
        if op.outcome == "ok" and (row is None or row.is_live):
            yield Finding("lost", f"cancellation {_name(op)} was acknowledged and undone", op.answered_s)
        if op.outcome == "refused":
            yield Finding("lost", f"cancellation {_name(op)} was refused: {op.words}", op.answered_s)


def _oversold_rows(rows: Sequence[CourseRow], sizes: Mapping[int, Size]) -> Iterator[Finding]:
    sold = Counter(seat[1:] for row in rows for seat in row.live_seats)
    for (session, slot, seat), times in sold.items():
        slots, lines = sizes.get(session, (0, 0))
        if times > 1:
            yield Finding("oversold", f"seat {session}/{slot}/{seat} is sold {times} times")
        if slot >= slots or seat >= lines:
            yield Finding("oversold", f"seat {session}/{slot}/{seat} was never on sale")


def _double_booked_rows(rows: Sequence[CourseRow]) -> Iterator[Finding]:
    live = Counter(row.person for row in rows if row.is_live)
    for person, count in live.items():
        if count > 1:
            yield Finding("double_booked", f"person {person} has {count} live courses")


def _half_courses(rows: Sequence[CourseRow]) -> Iterator[Finding]:
    for row in rows:
        doses = tuple(sorted(seat[0] for seat in row.seats))
        live = tuple(sorted(seat[0] for seat in row.live_seats))
        if doses != DOSES or live != (DOSES if row.is_live else ()):
            words = f"course {row.person}/{row.generation} has doses {doses}, of them live {live}"
            yield Finding("half_courses", words)


def _held_twice(ops: Sequence[Op]) -> Iterator[Finding]:
    """Two clients had the same seat, or one two courses, at one time: from an answer to the next cancel."""
    given_up: dict[tuple[str, int], float] = {}
    for op in ops:
        if op.act == "cancel":
            course = (op.person, op.generation)
            given_up[course] = min(op.sent_s, given_up.get(course, op.sent_s))
    first: dict[tuple[str, int], Op] = {}
    for op in sorted(_bookings(ops), key=lambda op: op.answered_s):
        first.setdefault((op.person, op.generation), op)
    holders: dict[object, list[tuple[float, float, Op]]] = defaultdict(list)
    for course, op in first.items():
        held = (op.answered_s, given_up.get(course, float("inf")), op)
        holders[op.person].append(held)
        for seat in op.seats:
            holders[seat[1:]].append(held)
    for what, times in holders.items():
        yield from _overlaps(what, times)


def _overlaps(what: object, times: list[tuple[float, float, Op]]) -> Iterator[Finding]:
    """``times``: from, until, whose. Empty intervals (cancelled before this answer came) hold nothing."""
    until, before = float("-inf"), None
    for start, end, op in sorted((t for t in times if t[0] < t[1]), key=lambda t: t[:2]):
        if start < until and before is not None:
            figure = "double_booked" if isinstance(what, str) else "oversold"
            yield Finding(figure, f"{what} was held by {_name(before)} and {_name(op)} at once", start)
        if end > until:
            until, before = end, op


def _answered_differently(ops: Sequence[Op]) -> Iterator[Finding]:
    """Once told "booked", a key is never told anything else."""
    for copies in _by_key(ops).values():
        told = [op for op in copies if op.outcome == "ok"]
        if not told:
            continue
        if len({(op.generation, op.location, op.seats) for op in told}) > 1:
            words = f"key of {_name(told[0])} was given {len(told)} answers that differ"
            yield Finding("answered_differently", words, told[-1].answered_s)
        since_s = min(op.answered_s for op in told)
        for op in copies:
            if op.outcome == "refused" and op.sent_s > since_s:
                words = f"key of {_name(told[0])} was told booked, then {op.words}"
                yield Finding("answered_differently", words, op.answered_s)


def _refused_yet_booked(ops: Sequence[Op], rows: Sequence[CourseRow]) -> tuple[list[Finding], int]:
    """Courses whose key was only ever refused, or was never asked for; and the known exposure."""
    by_key, findings, exposed = _by_key(ops), [], 0
    for row in rows:
        copies = by_key.get((row.person, row.op_key), [])
        if any(op.outcome == "ok" for op in copies):
            continue
        course = f"course {row.person}/{row.generation}"
        if not copies:
            findings.append(Finding("refused_yet_booked", f"{course} was never asked for"))
            continue
        open_ones = [op for op in copies if op.outcome == "unknown"]
        last = max(copies, key=lambda op: op.sent_s)
        if last.outcome == "unknown":
            continue
        if all(op.status and op.answered_s < last.sent_s for op in open_ones):
            words = f"{course}: the last answer was {last.outcome}: {last.words}"
            findings.append(Finding("refused_yet_booked", words, last.answered_s))
        else:
            exposed += 1
    return findings, exposed


def _by_key(ops: Sequence[Op]) -> dict[tuple[str, str], list[Op]]:
    found: dict[tuple[str, str], list[Op]] = defaultdict(list)
    for op in ops:
        if op.act == "book":
            found[op.person, op.op_key].append(op)
    return found


def _name(op: Op) -> str:
    return f"{op.person}/{op.generation}"
