"""The checker: what clients were told against Postgres' rows. Pure, and written from the promises alone.

It shares no code with the engine or its audit. A finding is a broken promise. What the protocol itself leaves
open is counted apart as ``exposed``: a copy that never got any answer may be done after a later copy of the
same key was refused (PROTOCOL.md, "What a caller is told").
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

import msgspec

from tests.faults.history import BEGINS, SEATS, Op, Seat

FIGURES = (
    "lost",
    "oversold",
    "double_booked",
    "half_courses",
    "half_households",
    "broken_holds",
    "refused_yet_done",
    "answered_differently",
    "sequence_gaps",
)
BOTH, FIRST = (1, 2), (1,)
# How rows name what was done to a course; what ends by time has no key.
ACTS = {"confirm": "c", "extend": "w", "move": "v", "drop": "v", "cancel": "x"}
EXPIRED = "e"
Size = tuple[int, int]


class Change(msgspec.Struct, frozen=True):
    """What was done to a course: its act (c, w, v, x; e for the end of a hold), and the revision it made."""

    act: str
    op_key: str
    revision: int
    at_ms: int = 0


class Had(msgspec.Struct, frozen=True):
    """A seat that a course counted, from a revision on, until another (0: it still does)."""

    seat: Seat
    since: int = 1
    until: int = 0


class CourseRow(msgspec.Struct, frozen=True):
    """A course as Postgres has it; ``op_key`` is the part of its op that the idempotency key determines.

    ``state``: b booked, h held, x ended; empty where there are seats and no course. ``live_seats`` are those
    that their own partitions say are taken.
    """

    person: str
    generation: int
    location: int
    state: str
    op_key: str
    had: tuple[Had, ...] = ()
    live_seats: tuple[Seat, ...] = ()
    changes: tuple[Change, ...] = ()

    @property
    def is_live(self) -> bool:
        """Booked or held."""
        return self.state in ("b", "h")

    @property
    def revision(self) -> int:
        """The last one."""
        return max((change.revision for change in self.changes), default=1)

    def seats_at(self, revision: int) -> list[Seat]:
        """The seats that it counted then, in order."""
        return sorted(h.seat for h in self.had if h.since <= revision and (not h.until or h.until > revision))


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


class Asked(msgspec.Struct):
    """All copies of one write for one person: one key."""

    copies: list[Op]

    @property
    def op(self) -> Op:
        """The first copy."""
        return self.copies[0]

    @property
    def told(self) -> Op | None:
        """The first copy that was acknowledged."""
        return min(
            (op for op in self.copies if op.outcome == "ok"), key=lambda op: op.answered_s, default=None
        )

    @property
    def refused(self) -> bool:
        """Only ever refused, so that no copy may be done any more, nor was."""
        return self.told is None and not self.may_be_done and not self.is_exposed

    @property
    def may_be_done(self) -> bool:
        """Never answered for good."""
        return self.told is None and self.last.outcome == "unknown"

    @property
    def is_exposed(self) -> bool:
        """Refused at the end, while a copy without any answer could still have been on its way."""
        if self.told is not None or self.last.outcome == "unknown":
            return False
        open_ones = [op for op in self.copies if op.outcome == "unknown"]
        return not all(op.status and op.answered_s < self.last.sent_s for op in open_ones)

    @property
    def until_s(self) -> float:
        """When it was done at the latest."""
        told = self.told
        return float("inf") if told is None else told.answered_s

    @property
    def last(self) -> Op:
        """The last copy that was sent."""
        return max(self.copies, key=lambda op: op.sent_s)


Key = tuple[str, str]
CourseKey = tuple[str, int]


def check(ops: Sequence[Op], rows: Sequence[CourseRow], sizes: Mapping[int, Size]) -> Checked:
    """Hold a history against the rows, after every hold is over. ``sizes``: session → (slots, lines)."""
    asked = _by_key(ops)
    changes: dict[CourseKey, list[Asked]] = defaultdict(list)
    for one in asked.values():
        if one.op.act not in BEGINS:
            changes[one.op.person, one.op.generation].append(one)
    findings = [
        *_lost(asked, changes, rows),
        *_oversold_rows(rows, sizes),
        *_double_booked_rows(rows),
        *_half_courses(changes, rows),
        *_half_households(asked, rows),
        *_broken_holds(asked, changes, rows),
        *_held_twice(asked, changes),
        *_answered_differently(asked, rows),
    ]
    refused, exposed = _refused_yet_done(asked, rows)
    return Checked(findings + refused, exposed)


def check_outboxes(
    outboxes: Iterable[Outbox], rows: Sequence[CourseRow], quarantined: int, past: int = 0, parts: int = 0
) -> list[Finding]:
    """No gap: in the streams, up to Postgres' watermark, and against the number of things that happened.

    ``past``: events that Postgres had of epochs that ended with a rebuild. ``parts``: events of seats that
    were set aside, or given back, away from their course's home.
    """
    found, events = [], quarantined + parts - past
    for outbox in outboxes:
        gaps = [(a, b) for a, b in pairwise(outbox.sequences) if b != a + 1]
        ends_elsewhere = bool(outbox.sequences) and outbox.sequences[-1] != outbox.last
        if gaps or ends_elsewhere or outbox.watermark != outbox.last:
            words = f"gaps {gaps[:3]}, last {outbox.last}, watermark {outbox.watermark}"
            found.append(Finding("sequence_gaps", f"partition {outbox.partition}: {words}"))
        events -= outbox.watermark + 1
    events += sum(1 + len(row.changes) for row in rows if row.state)
    if events:
        words = f"Postgres tells of {abs(events)} events {'more' if events > 0 else 'less'} than it has seen"
        found.append(Finding("sequence_gaps", words))
    return found


def _by_key(ops: Sequence[Op]) -> dict[Key, Asked]:
    """Writes by person and key; polls are copies of what they ask about."""
    found: dict[Key, Asked] = {}
    for op in ops:
        found.setdefault((op.person, op.op_key), Asked([])).copies.append(op)
    return found


# Lost ------------------------------------------------------------------------------------------------------


def _lost(
    asked: Mapping[Key, Asked], changes: Mapping[CourseKey, list[Asked]], rows: Sequence[CourseRow]
) -> Iterator[Finding]:
    """What was acknowledged and is absent, different, or undone unasked."""
    by_course = {(row.person, row.generation): row for row in rows if row.state}
    for one in asked.values():
        op = one.told
        if op is None:
            if one.op.act == "cancel" and one.refused:
                yield Finding("lost", f"{_name(one.op)} was refused: {one.last.words}", one.last.answered_s)
            continue
        row = by_course.get((op.person, op.generation))
        if row is None:
            yield Finding("lost", f"{_name(op)} was acknowledged, the course is nowhere", op.answered_s)
        elif op.act in BEGINS:
            if (row.location, row.seats_at(1)) != (op.location, sorted(op.seats)):
                words = f"{_name(op)} was told {op.seats}, is {row.seats_at(1)}"
                yield Finding("lost", words, op.answered_s)
        else:
            yield from _lost_change(op, row)
    for course, row in by_course.items():
        yield from _undone(row, asked, changes.get(course, []))


def _lost_change(op: Op, row: CourseRow) -> Iterator[Finding]:
    if op.act == "cancel":
        if row.is_live:
            yield Finding("lost", f"{_name(op)} was acknowledged and undone", op.answered_s)
        return
    made = [c for c in row.changes if (c.act, c.op_key) == (ACTS[op.act], op.op_key)]
    if not made:
        yield Finding("lost", f"{_name(op)} was acknowledged, and never happened", op.answered_s)
    elif op.act in SEATS and row.seats_at(made[0].revision) != sorted(op.seats):
        words = f"{_name(op)} was told {op.seats}, made {row.seats_at(made[0].revision)}"
        yield Finding("lost", words, op.answered_s)


def _undone(row: CourseRow, asked: Mapping[Key, Asked], changes: Sequence[Asked]) -> Iterator[Finding]:
    """Ended, though nobody asked and no hold was over; or with seats that were given up since."""
    began = asked.get((row.person, row.op_key))
    told = began.told if began else None
    at_s = told.answered_s if told else None
    if row.state == "x" and not any(one.op.act == "cancel" for one in changes):
        confirmed = any(change.act == "c" for change in row.changes)
        if told is not None and (told.act != "hold" or confirmed):
            yield Finding("lost", f"{_name(told)} was ended, nobody asked", at_s)
    last = max((c for c in row.changes if c.act == "v"), key=lambda c: c.revision, default=None)
    later = _last_granted(changes)
    if row.is_live and later and (last is None or last.op_key not in later):
        by = asked.get((row.person, last.op_key)) if last else None
        if by is None or by.told is not None:
            op = next(iter(later.values()))
            yield Finding("lost", f"{_name(op)} was acknowledged last, and is not", op.answered_s)


def _last_granted(changes: Sequence[Asked]) -> dict[str, Op]:
    """The granted moves after which no other was begun, by their keys."""
    granted = [(one, told) for one in changes if (told := one.told) is not None and told.act in SEATS]
    return {
        told.op_key: told
        for _, told in granted
        if not any(min(op.sent_s for op in other.copies) > told.answered_s for other, _ in granted)
    }


# Seats, people, courses, households ------------------------------------------------------------------------


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


def _half_courses(changes: Mapping[CourseKey, list[Asked]], rows: Sequence[CourseRow]) -> Iterator[Finding]:
    """Both doses, or the first where somebody gave up the second; what counts is taken, and nothing else."""
    for row in rows:
        dropped = any(one.op.act == "drop" for one in changes.get((row.person, row.generation), ()))
        counted = row.seats_at(row.revision) if row.is_live else []
        doses = tuple(seat[0] for seat in counted)
        begun = tuple(seat[0] for seat in row.seats_at(1))
        is_whole = doses == BOTH or (dropped and doses == FIRST) or not row.is_live
        if not is_whole or sorted(row.live_seats) != counted or (row.state and begun != BOTH):
            words = f"course {row.person}/{row.generation} counts {counted}, of it live {row.live_seats}"
            yield Finding("half_courses", words)


def _half_households(asked: Mapping[Key, Asked], rows: Sequence[CourseRow]) -> Iterator[Finding]:
    """What people did together happened to all of them or to none."""
    done = {(row.person, row.op_key) for row in rows if row.state}
    done |= {(row.person, change.op_key) for row in rows for change in row.changes}
    households: dict[str, list[Asked]] = defaultdict(list)
    for one in asked.values():
        if one.op.members > 1:
            households[one.op.op_key].append(one)
    for key, members in households.items():
        with_it = sum((one.op.person, key) in done for one in members)
        if with_it not in (0, members[0].op.members):
            words = f"{_name(members[0].op)} happened to {with_it} of {members[0].op.members} people"
            yield Finding("half_households", words, members[0].last.answered_s)


def _broken_holds(
    asked: Mapping[Key, Asked], changes: Mapping[CourseKey, list[Asked]], rows: Sequence[CourseRow]
) -> Iterator[Finding]:
    """Ended before their time, never ended, or going on after somebody was told that they were over."""
    for row in rows:
        if row.state == "h":
            yield Finding("broken_holds", f"course {row.person}/{row.generation} is held, and is over")
        mine = changes.get((row.person, row.generation), [])
        began = asked.get((row.person, row.op_key))
        told = [op for one in [*mine, *([began] if began else [])] if (op := one.told) is not None]
        until_ms = max((op.until_ms for op in told), default=0)
        for change in row.changes:
            if change.act == EXPIRED and change.at_ms < until_ms:
                words = f"course {row.person}/{row.generation} ended {until_ms - change.at_ms} ms too early"
                yield Finding("broken_holds", words)
        over = [op for one in mine for op in one.copies if op.words == "hold-over"]
        if row.is_live and over:
            yield Finding("broken_holds", f"{_name(over[0])}: told that it is over", over[0].answered_s)


# What clients had, by their own account --------------------------------------------------------------------


def _held_twice(asked: Mapping[Key, Asked], changes: Mapping[CourseKey, list[Asked]]) -> Iterator[Finding]:
    """Two clients had one seat, or one two courses, at one time: from an answer until they asked for another.

    A hold counts if it was confirmed: until then it may have ended, by a clock that clients do not have.
    """
    holders: dict[object, list[tuple[float, float, Op]]] = defaultdict(list)
    for one in asked.values():
        told = one.told
        if told is None or told.act not in SEATS:
            continue
        mine = changes.get((told.person, told.generation), [])
        others = [other for other in mine if other.op.op_key != told.op_key]
        confirmed = [c.told for c in mine if c.told is not None and c.op.act == "confirm"]
        if told.act == "hold" and not confirmed:
            continue
        sent_s = min(op.sent_s for op in one.copies)
        ended = _first_sent((o for o in others if o.op.act == "cancel"), sent_s)
        left = _first_sent((o for o in others if o.op.act in {"cancel", "move", "drop"}), sent_s)
        if told.act in BEGINS:
            holders[told.person].append((told.answered_s, ended, told))
        for seat in told.seats:
            holders[seat[1:]].append((told.answered_s, left, told))
    for what, times in holders.items():
        yield from _overlaps(what, times)


def _first_sent(others: Iterable[Asked], after_s: float) -> float:
    """When the first of those left that may have been done after that; one may have been sent before it."""
    later = (one for one in others if one.until_s > after_s)
    return min((op.sent_s for one in later for op in one.copies), default=float("inf"))


def _overlaps(what: object, times: list[tuple[float, float, Op]]) -> Iterator[Finding]:
    """``times``: from, until, whose. Empty intervals (given up before this answer came) hold nothing."""
    until, before = float("-inf"), None
    for start, end, op in sorted((t for t in times if t[0] < t[1]), key=lambda t: t[:2]):
        if start < until and before is not None and _course(before) != _course(op):
            figure = "double_booked" if isinstance(what, str) else "oversold"
            yield Finding(figure, f"{what} was held by {_name(before)} and {_name(op)} at once", start)
        if end > until:
            until, before = end, op


def _answered_differently(asked: Mapping[Key, Asked], rows: Sequence[CourseRow]) -> Iterator[Finding]:
    """Once told "done", a key is never told anything else, and what it asked for is done once."""
    for one in asked.values():
        first = one.told
        if first is None:
            continue
        told = [op for op in one.copies if op.outcome == "ok"]
        # The address that a 202 came with tells of the course as it stands.
        answers = {op.seats for op in told if not op.is_poll}
        if first.act in SEATS and (
            len(answers) > 1 or len({(op.generation, op.location) for op in told}) > 1
        ):
            words = f"key of {_name(first)} was given {len(told)} answers that differ"
            yield Finding("answered_differently", words, told[-1].answered_s)
        for op in one.copies:
            if op.outcome == "refused" and op.sent_s > first.answered_s:
                words = f"key of {_name(first)} was told done, then {op.words}"
                yield Finding("answered_differently", words, op.answered_s)
    done = Counter((row.person, row.op_key) for row in rows if row.state)
    done += Counter((row.person, c.op_key) for row in rows for c in row.changes if c.act != EXPIRED)
    for (person, key), times in done.items():
        if times > 1:
            yield Finding("answered_differently", f"key {key} of person {person} was done {times} times")


def _refused_yet_done(asked: Mapping[Key, Asked], rows: Sequence[CourseRow]) -> tuple[list[Finding], int]:
    """What was done though its key was only ever refused, or was never sent; and the known exposure."""
    findings, exposed = [], 0
    for row in rows:
        keys = [row.op_key] if row.state else []
        for key in [*keys, *(c.op_key for c in row.changes if c.act != EXPIRED)]:
            one = asked.get((row.person, key))
            course = f"course {row.person}/{row.generation}"
            if one is None:
                findings.append(Finding("refused_yet_done", f"{course}: key {key} was never sent"))
            elif one.refused:
                words = f"{course}: the last answer to {one.op.act} was {one.last.outcome}: {one.last.words}"
                findings.append(Finding("refused_yet_done", words, one.last.answered_s))
            else:
                exposed += one.is_exposed
    return findings, exposed


def _course(op: Op) -> CourseKey:
    return op.person, op.generation


def _name(op: Op) -> str:
    return f"{op.act} {op.person}/{op.generation}"
