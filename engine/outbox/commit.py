"""Writes a batch of events and the new watermarks in one transaction.

What breaks a proof goes to ``quarantine`` in the same transaction, whole, with its reason; it never aborts
the batch. The watermarks advance by compare-and-set, so a batch is written exactly once, and a persister
that has been replaced learns it here (``PersisterReplaced``), its rows undone.
"""

from collections.abc import Mapping, Set
from itertools import count
from typing import Any, Literal

import msgspec

from engine import limits
from engine.domain.course import HERE, Appointment, CourseId
from engine.errors import EngineFault, PersisterReplaced
from engine.inventory import codec
from engine.outbox.feed import Entry, Position, digest_of
from engine.outbox.fold import Broken, Course, Fold, SeatKey, not_younger, without
from engine.storage.copy import Row, copy_rows
from engine.storage.pool import rows_of
from engine.storage.queries import query

COURSE_KEY = ("bytes16", "smallint", "bigint")
SEAT_KEY = (*COURSE_KEY, "smallint", "integer", "smallint")
SPOT = ("bigint", "integer", "integer")
BEGUN_ROW = Row(
    *("integer", "integer", *COURSE_KEY, "bigint", "bytes16", "bigint"),
    *("char", "integer", "bigint", "bigint", "smallint", "integer"),
)
CONTINUED_ROW = Row(
    *("integer", "integer", *COURSE_KEY, "char", "integer"),
    *("char", "integer", "bigint", "integer", "bigint"),
)
CHANGE_ROW = Row("integer", *COURSE_KEY, "integer", "char", "bytes16", "bigint")
TAKEN_ROW = RELEASED_ROW = Row("integer", *SEAT_KEY, *SPOT, "bigint", "integer")
PART_ROW = Row("integer", "smallint", "bytes16")
JOINED_ROW = Row("integer", *SEAT_KEY, *SPOT, "integer")
LEFT_ROW = Row("integer", *SEAT_KEY, "integer")
TABLES = ("begun", "continued", "change", "taken", "released", "part", "joined", "left")
# A reason of `batch.broken`: the live course that is in the way is a later one of the person.
OVERTAKEN = "overtaken"
BROKEN_BY = {OVERTAKEN: Broken.PERSON_LIVE}


class Committed(msgspec.Struct, frozen=True):
    """The batch as it was written, and where each of its partitions stands now."""

    fold: Fold
    positions: dict[int, Position]


class _TooEarly(Exception):
    """These entries cannot be judged yet; ends the transaction, is never seen outside."""

    def __init__(self, entries: list[Entry]) -> None:
        self.entries = entries


async def prepare(connection: Any) -> None:
    """Make the temporary tables of a connection that will write batches."""
    for table in TABLES:
        await connection.execute(query(f"batch.create_{table}"))


async def commit(
    connection: Any,
    entries: Mapping[int, list[Entry]],
    positions: Mapping[int, Position],
    *,
    cut: frozenset[int] = frozenset(),
    marks: Mapping[int, int] | None = None,
    certain: Mapping[int, int] | None = None,
    behind: Set[int] = frozenset(),
) -> Committed:
    """Write a batch, or the part of it that can be judged. ``cut``: partitions with more to be read.

    ``marks`` by partition are in Redis already.

    A person's courses may live in several partitions, so one of them may be read before another that came
    first. What is younger than all that was read of a cut partition waits for the next round
    (``fold.not_younger``): then a course is never written before the ones that it follows. A course that
    still comes too early waits as well, with what is behind it.

    ``certain`` says, by partition, up to which event all that it could follow from has been read. What comes
    too early beyond that may wait for ever, with nothing written; None: what was not cut was read at one
    instant, and if nothing could be written otherwise, all that was read is judged as it stands.
    ``behind``: partitions with more behind what is given; the end of a course may be there.
    """
    batch = not_younger(entries, cut)
    held_back = batch != dict(entries)
    sure = certain if certain is not None else ({} if cut else _ends(entries))
    while True:
        fold = Fold(batch)
        try:
            async with connection.transaction():
                if certain is None:
                    await _write(connection, fold, sure, True)
                else:
                    short = _shortened(batch, entries)
                    await _write(connection, fold, _still(sure, short), set(batch) - short - behind)
                if marks:
                    await _mark(connection, marks, positions)
                return Committed(fold, await _advance(connection, batch, positions))
        except _TooEarly as early:
            shorter = without(batch, early.entries)
            if shorter:
                batch = shorter
            elif held_back:
                held_back, batch = False, dict(entries)
            elif certain is None:
                sure = _ends(entries)
            else:
                return Committed(Fold({}), {})


def _ends(entries: Mapping[int, list[Entry]]) -> dict[int, int]:
    return {partition: items[-1].sequence for partition, items in entries.items()}


def _shortened(batch: Mapping[int, list[Entry]], entries: Mapping[int, list[Entry]]) -> set[int]:
    """The partitions of which the batch does not have all that was given."""
    return {partition for partition, items in entries.items() if len(batch.get(partition, ())) < len(items)}


def _still(sure: Mapping[int, int], short: Set[int]) -> dict[int, int]:
    """What an event could follow from must be in the batch as well, if it is in another partition."""
    return {partition: end for partition, end in sure.items() if short <= {partition}}


async def _write(
    connection: Any, fold: Fold, sure: Mapping[int, int], whole: Set[int] | Literal[True]
) -> None:
    """Write a batch. ``sure``: up to which event of a partition a course that comes too early is broken.

    One that was overtaken is broken only if its partition is ``whole`` (True: all are), and without its end.
    """
    overtaken: set[int] = set()
    for refolds in count():
        await _stage(connection, fold)
        rows = await connection.fetch(query("batch.broken"))
        # Of an event's reasons the first counts.
        reasons = {row["n"]: row["reason"] for row in reversed(rows)}
        overtaken |= {n for n, reason in reasons.items() if reason == OVERTAKEN}
        if reasons:
            broken = {n: BROKEN_BY.get(reason) or Broken(reason) for n, reason in reasons.items()}
            # What depended on a rejected event is judged again; but where all is broken, not for ever.
            fold.reject(broken if refolds < limits.REFOLDS_MAX else {**fold.broken, **broken})
        early = [
            entry
            for n, entry in _twice_live(fold)
            if entry.sequence > sure.get(entry.partition, -1)
            or (n in overtaken and whole is not True and entry.partition not in whole)
        ]
        if early:
            raise _TooEarly(early)
        if not reasons:
            break
        await connection.execute(query("batch.clear"))
    await _move(connection, fold)
    if fold.broken:
        await _quarantine(connection, fold)


def _twice_live(fold: Fold) -> list[tuple[int, Entry]]:
    return [(n, fold.entries[n]) for n, reason in fold.broken.items() if reason is Broken.PERSON_LIVE]


async def _stage(connection: Any, fold: Fold) -> None:
    """Copy the folded batch to the temporary tables."""
    await _copy(connection, "begun", [_begun_row(fold, course) for course in fold.begun()])
    await _copy(connection, "continued", [_continued_row(fold, course) for course in fold.continued()])
    await _copy(connection, "change", [_change_row(n, event) for n, event in fold.changes])
    takings = (*fold.takings.values(), *fold.superseded)
    await _copy(
        connection,
        "taken",
        [
            TAKEN_ROW.pack(t.number, *_seat_key(t.key), *_spot(t.appointment), t.ended_ms, t.left_revision)
            for t in takings
        ],
    )
    await _copy(
        connection,
        "released",
        [
            RELEASED_ROW.pack(r.number, *_seat_key(key), *_spot(r.appointment), r.ended_ms, r.left_revision)
            for key, r in fold.releases.items()
        ],
    )
    parts = [PART_ROW.pack(n, event.entries[0].appointment.where, event.op) for n, event in fold.asides]
    await _copy(connection, "part", parts)
    await _copy(
        connection,
        "joined",
        [
            JOINED_ROW.pack(j.number, *_seat_key(key), *_spot(j.appointment), j.left_revision)
            for key, j in fold.joinings.items()
        ],
    )
    await _copy(
        connection,
        "left",
        [
            LEFT_ROW.pack(leaving.number, *_seat_key(key), leaving.left_revision)
            for key, leaving in fold.leavings.items()
        ],
    )


async def _copy(connection: Any, table: str, rows: list[bytes]) -> None:
    if rows:
        await copy_rows(connection, f"batch_{table}", rows)


def _begun_row(fold: Fold, course: Course) -> bytes:
    event = course.first
    return BEGUN_ROW.pack(
        course.number,
        fold.entries[course.number].partition,
        *_course_key(event.course),
        event.seats(codec.TAKEN)[0].session,
        event.op,
        event.at_ms,
        course.state,
        course.revision,
        course.until_ms,
        course.ended_ms,
        event.given_vaccine,
        event.given_day,
    )


def _continued_row(fold: Fold, course: Course) -> bytes:
    return CONTINUED_ROW.pack(
        course.number,
        fold.entries[course.number].partition,
        *_course_key(course.first.course),
        course.first.type,
        course.first.revision,
        course.state,
        course.revision,
        course.until_ms,
        course.end_number,
        course.ended_ms,
    )


def _change_row(number: int, event: codec.Event) -> bytes:
    return CHANGE_ROW.pack(
        number, *_course_key(event.course), event.revision, event.type, event.op, event.at_ms
    )


def _course_key(course: CourseId) -> tuple[bytes, int, int]:
    return course.person, course.kind, course.generation


def _seat_key(key: SeatKey) -> tuple[bytes, int, int, int, int, int]:
    course = key.course
    return course.person, course.kind, course.generation, key.dose, key.revision, key.place


def _spot(seat: Appointment) -> tuple[int, int, int]:
    return seat.session, seat.slot, seat.seat


async def _move(connection: Any, fold: Fold) -> None:
    """From the temporary tables to the lasting ones, releases before takes. Every row was proved to fit.

    A row that does not fit all the same was written by somebody else since: the transaction fails, and the
    next one sees and quarantines it.
    """
    parts = sum(1 for t in fold.takings.values() if t.key.place != HERE)
    steps = (
        ("release_seats", len(fold.releases)),
        ("leave_seats", len(fold.leavings)),
        ("continue_courses", len(fold.continued())),
        ("begin_courses", len(fold.begun())),
        ("insert_changes", len(fold.changes)),
        ("take_seats", len(fold.takings) - parts),
        ("take_parts", parts),
        ("join_parts", len(fold.joinings)),
    )
    for name, rows in steps:
        if rows:
            _expect(name, rows, await connection.execute(query(f"batch.{name}")))


def _expect(what: str, rows: int, status: str) -> None:
    if rows_of(status) != rows:
        raise EngineFault(
            f"{what}: {rows_of(status)} of {rows} rows could be written: another process writes these tables"
        )


async def _quarantine(connection: Any, fold: Fold) -> None:
    rows = [(fold.entries[number], reason) for number, reason in sorted(fold.broken.items())]
    await connection.execute(
        query("quarantine.insert"),
        [entry.partition for entry, _ in rows],
        [entry.sequence for entry, _ in rows],
        [reason.value for _, reason in rows],
        [entry.payload for entry, _ in rows],
    )


async def _mark(connection: Any, marks: Mapping[int, int], positions: Mapping[int, Position]) -> None:
    partitions = sorted(marks)
    epochs, numbers = [positions[p].epoch for p in partitions], [marks[p] for p in partitions]
    await connection.execute(query("partition.mark"), partitions, epochs, numbers)


async def _advance(
    connection: Any, batch: Mapping[int, list[Entry]], positions: Mapping[int, Position]
) -> dict[int, Position]:
    partitions = sorted(batch)
    after = {p: Position(positions[p].epoch, batch[p][-1].sequence) for p in partitions}
    moved = await connection.fetchval(
        query("partition.advance"),
        partitions,
        [positions[p].epoch for p in partitions],
        [positions[p].sequence for p in partitions],
        [after[p].sequence for p in partitions],
        [digest_of(after[p], batch[p][-1].payload) for p in partitions],
    )
    if moved != len(partitions):
        raise PersisterReplaced(
            "the watermark in Postgres is not where this persister left it: another one has written it"
        )
    return after
