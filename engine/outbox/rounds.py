"""The rounds of a persister that owns the partitions: read, commit, settle, trim.

Dying anywhere loses nothing: before the commit the batch is read again, after it only settling and trimming
are left, and the first round settles again whatever is untrimmed. Trimming never passes an event whose
guard or parts elsewhere are not settled, nor the last one that is committed: its digest certifies the outbox
(``certify.py``). A partition whose outbox does not continue where Postgres ends is halted and told of; the
others go on. It is compared again with every report, and goes on once it is certified, under a new epoch
after a rebuild.

On a cluster a partition may be away with its server. Then events whose guards are there wait, and those that
count seats there, with what is behind them in their outboxes: Postgres must not have a course whose claim, or
whose part, could be missing when the server comes back. With replicas, nothing is committed that they do not
have: Postgres is never ahead of a survivor.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any

from engine import limits
from engine.errors import PartitionClosed
from engine.inventory import codec
from engine.outbox import commit
from engine.outbox.certify import Verdict, certify
from engine.outbox.feed import Entry, Feed, Position, Read
from engine.outbox.fold import PARTS, event_of, without
from engine.outbox.metrics import Metrics
from engine.outbox.settle import settlements
from engine.redis.batch import Batcher
from engine.redis.nodes import Command, Nodes
from engine.storage.queries import query

Told = tuple[Entry, codec.Event | None]
NOWHERE: frozenset[int] = frozenset()


class Rounds:
    """The rounds of one ownership: ``connection`` holds the locks."""

    def __init__(
        self,
        connection: Any,
        nodes: Nodes,
        batcher: Batcher,
        feed: Feed,
        positions: dict[int, Position],
        replicas: int,
        metrics: Metrics,
        say: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._nodes = nodes
        self._batcher = batcher
        self._feed = feed
        self._keyspace = keyspace = nodes.keyspace
        self._positions = positions
        self._replicas = replicas
        self._metrics = metrics
        self._say = say
        # First event of a partition whose guard or parts, elsewhere, could not be settled yet.
        self._unsettled: dict[int, int] = {}
        # Partitions whose untrimmed events were to be settled again, once in this ownership.
        self._begun: set[int] = set()
        self._halted: set[int] = set()
        # Those of them that the last comparison did not certify; the others were halted by what was read.
        self._doubted: set[int] = set()
        self._run_ids: dict[int, str] = {}
        # How far the read before this one had seen, where no read sees all partitions at once.
        self._seen: dict[int, int] = {}
        self._marks = dict.fromkeys(positions, 0)
        self._trimmed = dict.fromkeys(positions, -1)
        self._report_at = 0.0
        self._count_usual = max(
            limits.PERSIST_EVENTS_MAX // keyspace.partitions, limits.PERSIST_PARTITION_EVENTS_MIN
        )
        self._count = self._count_usual

    async def begin(self) -> None:
        """Make ready to write; halt what does not continue. The first round settles what is untrimmed."""
        await commit.prepare(self._connection)
        for partition in self._positions:
            self._metrics.halted.labels(str(partition)).set(0)
        await self._certify()

    async def round(self) -> bool:
        """Persist what there is, or wait a while for something. True when nothing more is waiting."""
        if time.monotonic() >= self._report_at:
            await self._report()
        block_ms = int(limits.PERSIST_IDLE_S * 1000)
        if not self._live():
            return bool(await asyncio.sleep(limits.PERSIST_IDLE_S, result=True))
        read = await self._feed.read(self._live(), self._count, block_ms)
        for partition, fault in read.faults.items():
            self._halt(partition, str(fault))
        if read.away:
            self._run_ids = {p: run_id for p, run_id in self._run_ids.items() if p not in read.away}
        if not read.entries:
            return False
        marks = await self._mark(read.entries.values())
        entries = await self._safe(read.entries, marks)
        behind = read.cut | {p for p, items in read.entries.items() if len(entries.get(p, ())) < len(items)}
        certain = self._certain(read, behind)
        if not entries:
            return True
        committed = await commit.commit(
            self._connection,
            entries,
            self._positions,
            cut=read.cut & set(entries),
            marks=marks,
            certain=certain,
            behind=behind,
        )
        # What is waited for may be behind all that one read takes.
        is_stuck = read.cut and not committed.positions
        self._count = min(2 * self._count, limits.PERSIST_AHEAD_EVENTS_MAX) if is_stuck else self._count_usual
        self._positions.update(committed.positions)
        self._count_events(committed)
        fold = committed.fold
        await self._settle(zip(fold.entries, fold.events, strict=True))
        await self._trim(committed.positions)
        return read.complete or not committed.positions

    def _certain(self, read: Read, behind: Set[int]) -> dict[int, int] | None:
        """Up to which event all that it could follow from is to be written; None where that is all of it.

        What the read before had seen was there when this one began. What is ``behind`` an event in its own
        partition came later, so that one may have been cut short: it would be for ever, behind an event that
        waits to be judged.
        """
        if read.at_once:
            return None
        missing = behind | self._away()
        certain = {partition: seen for partition, seen in self._seen.items() if missing <= {partition}}
        self._seen = {partition: items[-1].sequence for partition, items in read.entries.items()}
        return certain

    async def _mark(self, read: Iterable[Iterable[Entry]]) -> dict[int, int]:
        """Leave a mark where these events rest on something elsewhere; before they are committed."""
        elsewhere = {p for entries in read for entry in entries for p in self._elsewhere(entry)}
        wanted = elsewhere - self._halted - self._away()
        marks = {partition: self._marks[partition] + 1 for partition in sorted(wanted)}
        futures = [self._batcher.put(partition, codec.mark(mark)) for partition, mark in marks.items()]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        for partition, answer in zip(list(marks), answers, strict=True):
            if isinstance(answer, PartitionClosed):
                del marks[partition]
            elif isinstance(answer, BaseException):
                raise answer
        self._marks |= marks
        return marks

    async def _safe(
        self, entries: Mapping[int, list[Entry]], marks: dict[int, int]
    ) -> Mapping[int, list[Entry]]:
        """What may be committed: replicas have it, and the mark stands where its guard and its parts live.

        A partition that is halted needs none: it is rebuilt from Postgres before it sells.
        """
        if self._replicas and entries:
            have = await self._nodes.replicated({*entries, *marks}, self._replicas)
            entries = {partition: items for partition, items in entries.items() if partition in have}
            for partition in set(marks) - have:
                del marks[partition]
        sound = {*marks, *self._halted}
        unmarked = [
            entry
            for items in entries.values()
            for entry in items
            if not sound.issuperset(self._elsewhere(entry))
        ]
        return without(entries, unmarked) if unmarked else entries

    def _elsewhere(self, entry: Entry) -> Set[int]:
        """Other partitions that an event rests on: its guard's, and those of seats that it counts.

        A part rests on nothing: whether it counts, its course's home tells.
        """
        payload, own = entry.payload, entry.partition
        if self._keyspace.partitions == 1 or payload[1:2] in PARTS:
            return NOWHERE
        guard, joined = self._keyspace.of_person(codec.person_of(payload)), codec.joined_of(payload)
        if not joined:
            return NOWHERE if guard == own else {guard}
        return {guard, *joined} - {own}

    def _away(self) -> set[int]:
        return set(self._positions) - set(self._run_ids)

    def _live(self) -> dict[int, Position]:
        return {p: at for p, at in self._positions.items() if p not in self._halted and p in self._run_ids}

    def _halt(self, partition: int, why: str) -> None:
        if partition not in self._halted:
            self._halted.add(partition)
            self._metrics.halted.labels(str(partition)).set(1)
            self._say(f"HALTED: {why}")

    async def _certify(self) -> None:
        """Certify what agrees with Postgres, halt the rest, and go on with what agrees again."""
        verdict = await certify(self._connection, self._nodes)
        for partition, words in verdict.doubts.items():
            self._halt(partition, words)
        for partition in sorted(set(self._positions) - set(verdict.doubts) - set(verdict.away)):
            self._marks[partition] = verdict.marks[partition]
            if self._may_go_on(partition, verdict):
                self._go_on(partition, verdict.positions[partition])
        for partition in sorted(set(verdict.away) & set(self._run_ids)):
            self._say(f"{verdict.away[partition]}; the others go on")
        self._doubted, self._run_ids = set(verdict.doubts), verdict.run_ids
        await self._begin_settling()

    async def _begin_settling(self) -> None:
        """An ownership settles again what an earlier one may have left; a partition that was away, later."""
        new = set(self._run_ids) - self._begun
        if self._keyspace.partitions > 1 and new:
            for partition, first in (await self._feed.firsts(new)).items():
                self._settle_later(partition, first)
        self._begun |= new

    def _may_go_on(self, partition: int, verdict: Verdict) -> bool:
        """Rebuilt since; or halted, and agreeing again. What was halted by reading a gap stays so."""
        if verdict.positions[partition].epoch != self._positions[partition].epoch:
            return True
        was_doubted = partition in self._doubted or verdict.run_ids[partition] != self._run_ids.get(partition)
        return partition in self._halted and was_doubted

    async def _is_another(self) -> bool:
        """Whether these are other Redis processes than were certified, or something was rebuilt."""
        rows = await self._connection.fetch(query("partition.all"))
        if any(row["epoch"] != self._positions[row["partition"]].epoch for row in rows):
            return True
        await self._nodes.refresh()
        return await self._nodes.run_ids() != self._run_ids

    def _go_on(self, partition: int, position: Position) -> None:
        self._halted.discard(partition)
        self._metrics.halted.labels(str(partition)).set(0)
        if position.epoch != self._positions[partition].epoch:
            self._unsettled.pop(partition, None)
            self._seen.pop(partition, None)
            self._trimmed[partition] = -1
        self._positions[partition] = position
        self._say(f"partition {partition} is certified again, under epoch {position.epoch}")

    def _count_events(self, committed: commit.Committed) -> None:
        fold, now_s = committed.fold, time.time()
        for event in fold.events:
            if event is not None:
                self._metrics.lag.observe(max(0.0, now_s - event.at_ms / 1000))
        self._metrics.persisted.inc(len(fold.entries))
        self._metrics.rounds.inc()
        self._metrics.quarantined.inc(len(fold.broken))
        for number, reason in fold.broken.items():
            entry = fold.entries[number]
            self._say(f"QUARANTINED: event {entry.sequence} of partition {entry.partition}: {reason}")

    async def _settle(self, told: Iterable[Told]) -> None:
        """Tell other partitions what became of courses and parts. What fails is tried again later.

        So is what replicas do not have: a master that is lost takes it along.
        """
        asked = [(entry, *one) for entry, event in told for one in self._settlements(entry, event)]
        futures = [self._batcher.put(partition, record) for _, partition, record in asked]
        answers = await asyncio.gather(*futures, return_exceptions=True)
        partitions = {partition for _, partition, _ in asked}
        have = await self._nodes.replicated(partitions, self._replicas) if self._replicas else partitions
        for (entry, partition, _), answer in zip(asked, answers, strict=True):
            if isinstance(answer, BaseException) or partition not in have:
                self._settle_later(entry.partition, entry.sequence)

    def _settle_later(self, partition: int, sequence: int) -> None:
        self._unsettled[partition] = min(self._unsettled.get(partition, sequence), sequence)

    def _settlements(self, entry: Entry, event: codec.Event | None) -> list[tuple[int, bytes]]:
        """Partitions and operations for an event; none where the script itself has settled."""
        if event is None or self._keyspace.partitions == 1:
            return []
        return [one for one in settlements(event, self._keyspace) if one[0] != entry.partition]

    async def _settle_again(self) -> None:
        """Read and settle from the first unsettled event of each partition up to its watermark."""
        unsettled, self._unsettled = self._unsettled, {}
        for partition, first in unsettled.items():
            if partition in self._halted or partition not in self._run_ids:
                self._settle_later(partition, first)
                continue
            at, end = (
                Position(self._positions[partition].epoch, first - 1),
                self._positions[partition].sequence,
            )
            while at.sequence < end:
                read = await self._feed.read({partition: at}, self._count)
                if partition not in read.entries:
                    self._settle_later(partition, at.sequence + 1)
                    break
                entries = [entry for entry in read.entries[partition] if entry.sequence <= end]
                await self._settle([(entry, event_of(entry)) for entry in entries])
                at = Position(at.epoch, read.entries[partition][-1].sequence)

    async def _trim(self, partitions: Iterable[int]) -> None:
        """Let go of events that are committed and settled, but for a tail for readers that are behind."""
        commands: list[tuple[int, Command]] = []
        for partition in partitions:
            position = self._positions[partition]
            done = min(position.sequence, self._unsettled.get(partition, position.sequence + 1) - 1)
            floor = done + 1 - max(1, limits.OUTBOX_TAIL_EVENTS)
            if floor >= self._trimmed[partition] + limits.TRIM_EVENTS_MIN:
                outbox, least = self._keyspace.outbox(partition), b"%d-%d" % (position.epoch, floor)
                commands.append((partition, ("XTRIM", outbox, "MINID", "~", least)))
                self._trimmed[partition] = floor
        await self._nodes.ask(commands)

    async def _report(self) -> None:
        self._report_at = time.monotonic() + limits.PERSIST_REPORT_S
        if self._halted or await self._is_another():
            await self._certify()
        there = {p: self._positions[p] for p in self._run_ids}
        ends = await self._feed.ends(there)
        for partition, position in there.items():
            end = ends.get(partition, Position(position.epoch, -1))
            if end.epoch != position.epoch or end.sequence < position.sequence:
                self._halt(
                    partition,
                    f"partition {partition}: Postgres has event {position.epoch}-{position.sequence},"
                    f" the outbox ends at {end.epoch}-{end.sequence}: Redis is older than Postgres",
                )
            self._metrics.backlog.labels(str(partition)).set(max(0, end.sequence - position.sequence))
        if self._unsettled:
            await self._settle_again()
