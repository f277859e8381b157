"""Writes a batch of events and the new watermarks in one transaction.

What breaks a proof goes to ``quarantine`` in the same transaction, whole, with its reason; it never aborts
the batch. The watermarks advance by compare-and-set, so a batch is written exactly once, and a persister
that has been replaced learns it here (``PersisterReplaced``), its rows undone.
"""

from collections.abc import Mapping, Set
from typing import Any, Literal

import msgspec

from engine.errors import EngineFault, PersisterReplaced
from engine.outbox.feed import Entry, Position, digest_of
from engine.outbox.fold import Broken, Fold, appointments_of, not_younger, without
from engine.storage.copy import Row, copy_rows
from engine.storage.pool import rows_of
from engine.storage.queries import query

TAKEN = Row(
    "integer", "integer", "bytes16", "smallint", "bigint", "bigint", "bytes16", "bigint", "bigint", "bytes16"
)
SEAT = Row("integer", "smallint", "bigint", "integer", "integer")
RELEASED = Row("integer", "integer", "bytes16", "smallint", "bigint", "bigint", "bytes16")
# A reason of `batch.broken`: the live course that is in the way is a later one of the person.
OVERTAKEN = "overtaken"
TEMPORARY_TABLES = ("batch.create_taken", "batch.create_seat", "batch.create_released")


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
    for name in TEMPORARY_TABLES:
        await connection.execute(query(name))


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
    await _stage(connection, fold)
    rows = await connection.fetch(query("batch.broken"))
    overtaken = {row["n"] for row in rows if row["reason"] == OVERTAKEN}
    for row in rows:
        fold.reject(row["n"], Broken.PERSON_LIVE if row["n"] in overtaken else Broken(row["reason"]))
    live = {n: fold.entries[n] for n, reason in fold.broken.items() if reason is Broken.PERSON_LIVE}
    early = [
        entry
        for n, entry in live.items()
        if entry.sequence > sure.get(entry.partition, -1)
        or (n in overtaken and whole is not True and entry.partition not in whole)
    ]
    if early:
        raise _TooEarly(early)
    if rows:
        await _drop(connection, [row["n"] for row in rows])
    await _move(connection, fold)
    if fold.broken:
        await _quarantine(connection, fold)


async def _stage(connection: Any, fold: Fold) -> None:
    taken, released, entries = fold.taken.values(), fold.released.values(), fold.entries
    if taken:
        courses = (
            TAKEN.pack(
                item.number,
                entries[item.number].partition,
                item.event.course.person,
                item.event.course.kind,
                item.event.course.generation,
                item.event.appointments[0].session,
                item.event.op,
                item.event.at_ms,
                item.cancelled_ms,
                item.cancel_op,
            )
            for item in taken
        )
        await copy_rows(connection, "batch_taken", courses)
        seats = (SEAT.pack(n, a.dose, a.session, a.slot, a.seat) for n, a in appointments_of(taken))
        await copy_rows(connection, "batch_seat", seats)
    if released:
        courses = (
            RELEASED.pack(
                item.number,
                entries[item.number].partition,
                item.event.course.person,
                item.event.course.kind,
                item.event.course.generation,
                item.event.at_ms,
                item.event.op,
            )
            for item in released
        )
        await copy_rows(connection, "batch_released", courses)


async def _drop(connection: Any, numbers: list[int]) -> None:
    for name in ("batch.drop_taken", "batch.drop_seat", "batch.drop_released"):
        await connection.execute(query(name), numbers)


async def _move(connection: Any, fold: Fold) -> None:
    """Releases before takes. Every row was proved to fit.

    A row that does not fit all the same was written by somebody else since: the transaction fails, and the
    next one sees and quarantines it.
    """
    if fold.released:
        await connection.execute(query("batch.release_seats"))
        _expect(
            "cancelled courses", len(fold.released), await connection.execute(query("batch.release_courses"))
        )
    if fold.taken:
        seats = sum(len(item.event.appointments) for item in fold.taken.values())
        _expect("courses", len(fold.taken), await connection.execute(query("batch.take_courses")))
        _expect("appointments", seats, await connection.execute(query("batch.take_seats")))


def _expect(what: str, rows: int, status: str) -> None:
    if rows_of(status) != rows:
        raise EngineFault(
            f"{rows_of(status)} of {rows} {what} could be written: another process writes these tables"
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
