"""Rebuilds lost partitions from Postgres, under a new epoch.

In this order, each step leaving the partition closed, so that a run that dies is simply run again:

1. close: `meta` goes, so nothing more is sold under the old epoch;
2. save: what an outbox still has past the watermark is committed, if it continues it and the digest agrees;
3. wait, if other partitions go on: a take that was sent before step 1 is past its deadline then, and what
   they sold until now is in Postgres. So a claim lost with its guard can no longer become a course;
4. Postgres raises the epoch, by compare-and-set: nobody commits an event of the old one any more;
5. empty the partition, write a token, then courses, holds, guards, parts and stocks as Postgres has them;
6. tell guards and parts in other partitions what became of their courses here, which the lost outbox might
   not have;
7. Postgres learns the Redis process, then one script writes `meta` with the new epoch. It refuses if that
   process is another by now or the token is gone: whatever happened to Redis in between, half a partition is
   never opened.

Not restored, because Postgres has never heard of it: acknowledged bookings past the watermark when the outbox
is lost as well (policy `fsync`), claims without a course, tombstones. The last two are harmless: the takes
they could meet are refused by the epoch here, by their deadlines elsewhere. Parts in doubt come back as they
were, and the sweep asks their homes. Quarantined events are not restored.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import msgspec
from redis.exceptions import ResponseError

from engine import limits
from engine.domain.course import HERE
from engine.errors import PersisterReplaced, RebuildFailed
from engine.inventory import codec
from engine.inventory.library import load
from engine.outbox import commit
from engine.outbox.certify import compare, continues
from engine.outbox.feed import Feed, Position
from engine.recovery.records import (
    HELD,
    Course,
    CourseKey,
    Stocks,
    Write,
    courses_of,
    guards_of,
    part_of,
    part_record,
    writes_of,
)
from engine.redis.batch import Batcher
from engine.redis.nodes import Command, Nodes
from engine.storage.queries import query

Progress = Callable[[int, int], None]
# Fields and records of the buckets of people, by partition and key.
Buckets = defaultdict[tuple[int, bytes], list[bytes]]


class Rebuilt(msgspec.Struct, frozen=True):
    """What a rebuild wrote; ``epochs`` by partition. Nothing was lost: no epochs."""

    epochs: dict[int, int]
    courses: int = 0
    guards: int = 0
    parts: int = 0
    sessions: int = 0
    events_saved: int = 0
    seconds: float = 0.0


class Rebuild:
    """One rebuild. ``connection`` is its own and holds its locks; ``progress`` counts courses."""

    def __init__(
        self,
        connection: Any,
        nodes: Nodes,
        say: Callable[[str], None],
        progress: Progress = lambda done, total: None,
    ) -> None:
        self._connection = connection
        self._nodes = nodes
        self._keyspace = nodes.keyspace
        self._say = say
        self._progress = progress
        self._feed = Feed(nodes)
        self._epochs: dict[int, int] = {}
        self._batcher = Batcher(nodes, lambda partition: self._epochs.get(partition, 0))
        self._stocks = Stocks()
        self._counts: defaultdict[str, int] = defaultdict(int)

    async def run(self, partitions: Iterable[int], *, force: bool = False) -> Rebuilt:
        """Rebuild those of the partitions that are lost; with ``force``, the sound ones too.

        Raises ``RebuildFailed``, and what the stores raise; run again then.
        """
        began = time.monotonic()
        try:
            lost = await self._lost(sorted(set(partitions)), force=force)
            if lost:
                await self._rebuild(lost)
        finally:
            await self._batcher.close()
        seconds = round(time.monotonic() - began, 3)
        return Rebuilt({p: self._epochs[p] for p in lost}, **self._counts, seconds=seconds)

    async def _rebuild(self, lost: list[int]) -> None:
        await self._close(lost)
        await self._save(lost)
        if len(lost) < self._keyspace.partitions:
            await self._wait_for_others(lost)
        run_ids, token = await self._nodes.run_ids(), secrets.token_hex(16)
        await self._raise_epochs(lost)
        await self._empty(lost, token)
        await self._write(frozenset(lost))
        await self._open(lost, run_ids, token)

    # What is lost, and closing it ---------------------------------------------------------------------------

    async def _lost(self, partitions: list[int], *, force: bool) -> list[int]:
        """Lock the partitions; those that do not agree with Postgres, or all of them."""
        for partition in partitions:
            if not await self._connection.fetchval(query("partition.rebuild_lock"), partition):
                raise RebuildFailed(f"another rebuild works on partition {partition}: wait for it to end")
        await load(self._nodes)
        verdict = await compare(self._connection, self._nodes)
        if missing := set(partitions) - set(verdict.positions):
            raise RebuildFailed(f"Postgres knows no partition {min(missing)}")
        if verdict.away:
            # Also another partition's: it may have sold what follows from a claim that is lost here.
            raise RebuildFailed(f"{verdict.away[min(verdict.away)]}: start it first")
        self._epochs = {p: position.epoch for p, position in verdict.positions.items()}
        for partition in partitions:
            sound = f"partition {partition} agrees with Postgres"
            self._say(verdict.doubts.get(partition) or (sound + (": rebuilt all the same" if force else "")))
        return [p for p in partitions if force or p in verdict.doubts]

    async def _close(self, lost: list[int]) -> None:
        await self._nodes.ask([(partition, ("DEL", self._keyspace.meta(partition))) for partition in lost])

    async def _save(self, lost: list[int]) -> None:
        """Commit what the outboxes have past the watermarks, as far as they continue them."""
        await commit.prepare(self._connection)
        while True:
            positions = await self._continuing(lost)
            read = await self._feed.read(positions, limits.PERSIST_EVENTS_MAX)
            if not read.entries:
                return
            try:
                saved = await commit.commit(self._connection, read.entries, positions, cut=read.cut)
            except PersisterReplaced:
                continue  # A persister commits them at this moment: look again where it is.
            self._counts["events_saved"] += len(saved.fold.entries)

    async def _continuing(self, lost: list[int]) -> dict[int, Position]:
        """The watermarks of those whose outbox goes on from there."""
        rows = {row["partition"]: row for row in await self._connection.fetch(query("partition.all"))}
        ends = await self._feed.ends(lost)
        found = {}
        for partition in lost:
            row = rows[partition]
            position = Position(row["epoch"], row["watermark"])
            outbox = self._keyspace.outbox(partition)
            entries = await self._nodes.one(partition, "XRANGE", outbox, position.id, "+", "COUNT", 2)
            if not continues(position, row["digest"], ends.get(partition), entries):
                found[partition] = position
        return found

    async def _wait_for_others(self, lost: list[int]) -> None:
        """Until no take sent before the closing can be granted, and Postgres has what others sold."""
        others = [p for p in self._epochs if p not in lost]
        self._say(f"waiting until what was sent to {len(others)} other partition(s) is decided and committed")
        await asyncio.sleep(limits.OPERATION_MS_MAX / 1000 + 1)
        ends, behind, deadline = await self._feed.ends(others), -1, 0.0
        while True:
            rows = await self._connection.fetch(query("partition.all"))
            marks = {row["partition"]: row["watermark"] for row in rows}
            now_behind = sum(max(0, end.sequence - marks[p]) for p, end in ends.items())
            if not now_behind:
                return
            if now_behind != behind:
                behind, deadline = now_behind, time.monotonic() + limits.REBUILD_WAIT_S_MAX
            if time.monotonic() > deadline:
                raise RebuildFailed(
                    f"Postgres lacks {behind} events of other partitions and comes no nearer:"
                    " start dosebook persister, then rebuild again"
                )
            await asyncio.sleep(limits.AUDIT_POLL_S)

    async def _raise_epochs(self, lost: list[int]) -> None:
        async with self._connection.transaction():
            rows = {row["partition"]: row for row in await self._connection.fetch(query("partition.all"))}
            for partition in lost:
                before = (partition, rows[partition]["epoch"], rows[partition]["watermark"])
                if await self._connection.execute(query("partition.next_epoch"), *before) != "UPDATE 1":
                    raise RebuildFailed(f"partition {partition} moved while it was rebuilt: rebuild again")
            await self._connection.execute(query("appointment.take_counted"), lost)
        self._epochs |= {partition: rows[partition]["epoch"] + 1 for partition in lost}

    async def _empty(self, lost: list[int], token: str) -> None:
        """Take away every key of the partitions, then write the token."""
        for partition in lost:
            async for keys in self._nodes.scan(self._keyspace.prefix(partition) + b"*"):
                if keys:
                    await self._nodes.one(partition, "UNLINK", *keys)
            await self._nodes.one(partition, "SET", self._keyspace.rebuild(partition), token)

    # Writing ------------------------------------------------------------------------------------------------

    async def _write(self, lost: frozenset[int]) -> None:
        """Everything, from one snapshot of Postgres: guards and courses as they are read, then stocks."""
        async with self._connection.transaction(isolation="repeatable_read", readonly=True):
            await self._read_sessions(lost)
            total = await self._connection.fetchval(query("course.count"))
            cursor = await self._connection.cursor(query("course.rebuilt"))
            done = 0
            rest: list[Any] = []
            self._progress(done, total)
            while rows := await cursor.fetch(limits.REBUILD_COURSES_MAX):
                page, rest = _whole_persons([*rest, *rows])
                done += await self._write_page(page, lost)
                self._progress(done, total)
            self._progress(done + await self._write_page(rest, lost), total)
            await self._write_parts(lost)
        await self._write_stocks()

    async def _write_page(self, rows: list[Any], lost: frozenset[int]) -> int:
        """Whole persons; how many courses they have."""
        courses = courses_of(rows, await self._writes(rows))
        await self._write_people(courses, lost)
        return len(courses)

    async def _writes(self, rows: list[Any]) -> dict[CourseKey, list[Write]]:
        """What was written to those courses that were written to after they began."""
        changed = {row[0].hex() for row in rows if row["revision"] > 1}
        if not changed:
            return {}
        return writes_of(await self._connection.fetch(query("change.of_persons"), list(changed)))

    async def _read_sessions(self, lost: frozenset[int]) -> None:
        last = 0
        while rows := await self._connection.fetch(
            query("session.stocks_after"), last, limits.AUDIT_SESSIONS_MAX
        ):
            last = rows[-1]["id"]
            for session, location, lines, on_sale in rows:
                partition = self._keyspace.of_location(location)
                if partition in lost:
                    self._stocks.add(session, partition, lines, on_sale)

    async def _write_people(self, courses: list[Course], lost: frozenset[int]) -> None:
        """Courses of locations here, guards of persons here; and what guards elsewhere must know of them."""
        buckets: Buckets = defaultdict(list)
        of_person, of_location = self._keyspace.of_person, self._keyspace.of_location
        commands: list[tuple[int, Command]] = []
        told: list[tuple[int, bytes]] = []
        for course in courses:
            self._stocks.take(course.taken_here)
            if (home := of_location(course.location)) not in lost:
                continue
            self._counts["courses"] += 1
            field = _field(course)
            self._put(buckets, home, course.id.person, field, codec.pack_course(course.record))
            if course.record.state == HELD:
                commands.append((home, ("ZADD", self._keyspace.holds(home), course.until_ms, field)))
            told += [(place, record) for place, record in self._to_tell(course) if place not in lost]
        for person, kind, guard_record in guards_of(courses):
            if (partition := of_person(person)) in lost:
                self._counts["guards"] += 1
                guard = codec.PERSON_KIND.pack(person, kind), codec.pack_guard(guard_record)
                self._put(buckets, partition, person, *guard)
        await self._send([*_hsets(buckets), *commands])
        await self._tell(told)

    def _put(self, buckets: Buckets, partition: int, person: bytes, field: bytes, record: bytes) -> None:
        buckets[partition, self._keyspace.bucket(partition, person)] += (field, record)

    def _to_tell(self, course: Course) -> Iterator[tuple[int, bytes]]:
        """What other partitions must know of a course: its guard, and those of its parts that are decided."""
        guard = self._keyspace.of_person(course.id.person)
        yield guard, codec.settle(course.id) if course.is_live else codec.free(course.id)
        for seat in course.counted:
            if seat.where != HERE:
                yield seat.where, codec.keep(codec.PartId(course.id, seat.dose, seat.revision))
        for seat in course.given_back:
            yield seat.where, codec.quit_part(codec.PartId(course.id, seat.dose, seat.revision))

    async def _write_parts(self, lost: frozenset[int]) -> None:
        """Seats here that belong to courses whose home is elsewhere."""
        cursor = await self._connection.cursor(query("appointment.parts"), list(lost))
        while rows := await cursor.fetch(limits.REBUILD_COURSES_MAX):
            buckets: Buckets = defaultdict(list)
            for part in map(part_of, rows):
                home = part.home if part.location is None else self._keyspace.of_location(part.location)
                if home is None:
                    raise RebuildFailed(f"Postgres does not say which partition decides about {part.id}")
                self._counts["parts"] += 1
                self._stocks.take([part.seat])
                record = codec.pack_part(part_record(part, home))
                self._put(buckets, part.place, part.id.course.person, codec.part_field(part.id), record)
            await self._send(_hsets(buckets))

    async def _tell(self, records: list[tuple[int, bytes]]) -> None:
        """Settle guards and parts of partitions that go on. One that is closed is rebuilt, or asks later."""
        futures = [self._batcher.put(partition, record) for partition, record in records]
        await asyncio.gather(*futures, return_exceptions=True)

    async def _write_stocks(self) -> None:
        self._counts["sessions"] = len(self._stocks)
        await self._send(
            [
                (partition, ("SET", self._keyspace.session(partition, session), value))
                for partition, session, value in self._stocks.values()
            ]
        )

    async def _send(self, commands: list[tuple[int, Command]]) -> None:
        for at in range(0, len(commands), limits.REBUILD_KEYS_MAX):
            await self._nodes.ask(commands[at : at + limits.REBUILD_KEYS_MAX])

    async def _open(self, lost: list[int], run_ids: dict[int, str], token: str) -> None:
        """Postgres learns the processes, then Redis opens what was written into those very processes."""
        if away := set(lost) - set(run_ids):
            raise RebuildFailed(f"the server of partition {min(away)} went away: rebuild again")
        epochs = [self._epochs[partition] for partition in lost]
        owners = [run_ids[partition] for partition in lost]
        await self._connection.execute(query("partition.certify"), lost, epochs, owners)
        clock_ms = await self._connection.fetchval(query("course.latest_ms"))
        for partition, epoch, run_id in zip(lost, epochs, owners, strict=True):
            words = ("dosebook_reopen", 1, self._keyspace.outbox(partition), epoch, run_id, token, clock_ms)
            try:
                await self._nodes.one(partition, "FCALL", *words)
            except ResponseError as error:
                raise RebuildFailed(
                    f"partition {partition} was not opened: {error}: rebuild again"
                ) from error
            self._say(f"partition {partition} is open under epoch {epoch}")


def _field(course: Course) -> bytes:
    return codec.COURSE.pack(course.id.person, course.id.kind, course.id.generation)


def _hsets(buckets: Buckets) -> list[tuple[int, Command]]:
    return [(partition, ("HSET", key, *fields)) for (partition, key), fields in buckets.items()]


def _whole_persons(rows: list[Any]) -> tuple[list[Any], list[Any]]:
    """The rows of all persons but the last, and the rows of the last, whose others may still come."""
    last, at = rows[-1][0], len(rows)
    while at and rows[at - 1][0] == last:
        at -= 1
    return rows[:at], rows[at:]
