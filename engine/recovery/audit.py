"""The audit: seat masks, courses, guards, Postgres and the clients' own logs against each other.

It waits until Postgres has reached the ends of the outboxes, reads everything, and compares. What it finds
is read again: a difference counts if it recurs, so a system that is being booked can be audited. With a
quiet one, two readings are enough. A Postgres that never reaches the ends is a difference, not an error.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine import limits
from engine.recovery.acks import Ack, Decode, read_acks
from engine.recovery.compare import compare
from engine.recovery.differences import FIGURES, Difference, Figure
from engine.recovery.evidence import Evidence, Reader
from engine.redis.nodes import Nodes

WORDS_PER_FIGURE_MAX = 5


class Report(msgspec.Struct, frozen=True):
    """What an audit found. ``figures`` has every figure; ``first`` some words for those not 0."""

    figures: dict[Figure, int]
    first: dict[Figure, list[str]]
    sessions: int
    courses: int
    acknowledged: int
    readings: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        """Whether every figure is 0."""
        return not any(self.figures.values())


class Audit:
    """One audit of a deployment. ``say`` gets progress lines."""

    def __init__(
        self,
        connection: Any,
        nodes: Nodes,
        acks: tuple[Sequence[Path], Decode] = ((), lambda text: None),
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._reader = Reader(connection, nodes)
        self._paths, self._decode = acks
        self._say = say
        self._readings = 0

    async def run(self) -> Report:
        """Read until what is found recurs, or nothing is."""
        began = time.monotonic()
        evidence, found = await self._reading()
        while found and (self._readings < 2 or self._moves(evidence)):
            await asyncio.sleep(limits.AUDIT_PAUSE_S)
            evidence, again = await self._reading()
            recurring = {(d.figure, d.subject) for d in again}
            found = [d for d in found if (d.figure, d.subject) in recurring]
        return self._report(evidence, found, time.monotonic() - began)

    async def _reading(self) -> tuple[Evidence, list[Difference]]:
        acks = await asyncio.to_thread(self._read_acks)
        await self._wait()
        before = await self._reader.ends()
        evidence = await self._reader.read(acks)
        evidence.is_moving = before != await self._reader.ends()
        found = await asyncio.to_thread(compare, evidence)
        self._readings += 1
        self._say(f"reading {self._readings}: {len(found):,} differences")
        return evidence, found

    def _moves(self, evidence: Evidence) -> bool:
        return evidence.is_moving and self._readings < limits.AUDIT_PASSES_MAX

    def _read_acks(self) -> list[Ack]:
        return list(read_acks(self._paths, self._decode))

    async def _wait(self) -> None:
        """Wait until Postgres has what the outboxes hold now, as long as it comes nearer."""
        ends = await self._reader.ends()
        nearest, until = None, 0.0
        while True:
            committed = await self._reader.committed()
            behind = sum(max(0, ends[p] - at.sequence) for p, at in committed.items())
            if not behind:
                return
            if nearest is None or behind < nearest:
                nearest, until = behind, time.monotonic() + limits.AUDIT_WAIT_S_MAX
                self._say(f"waiting for Postgres: {behind:,} events behind")
            if time.monotonic() > until:
                self._say("Postgres does not come nearer: compared as it is")
                return
            await asyncio.sleep(limits.AUDIT_POLL_S)

    def _report(self, evidence: Evidence, found: list[Difference], seconds: float) -> Report:
        counts = Counter(difference.figure for difference in found)
        first: dict[Figure, list[str]] = {}
        for difference in found:
            words = first.setdefault(difference.figure, [])
            if len(words) < WORDS_PER_FIGURE_MAX:
                words.append(difference.words)
        return Report(
            {figure: counts[figure] for figure in FIGURES},
            first,
            len(evidence.sessions),
            len(evidence.rows),
            len(evidence.acks),
            self._readings,
            round(seconds, 2),
        )
