"""Postgres away for an hour under a moderate load: what grows meanwhile, and how long the way back takes.

Registered people book, change and cancel all the time. Postgres is killed and nobody starts it; then it comes
back on its old data, the backlog is drained, and checker and audit judge as after any fault.
"""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import msgspec

from engine.settings import Acknowledge
from tests.faults.campaign import FINDINGS_KEPT, TROUBLE, drained, judged, load
from tests.faults.history import History
from tests.faults.system import Ground, System, open_system
from tests.faults.trouble import StoppedError

WRITERS, PEOPLE_PER_WRITER = 64, 24
# Each writer rests this long before it books or cancels: together some 200 writes/s, half of them bookings.
PAUSE_S = 0.3
BEFORE_S = 5.0
MINUTE_S = 60.0
DRAIN_S_MAX = 3_600.0
MEGA = 1e6


class Minute(msgspec.Struct, frozen=True):
    """What a minute of the outage was like, at its end. ``backlog`` counts events that Postgres lacks."""

    at_s: float
    redis_mb: float
    backlog: int
    bookings_per_s: float
    cancellations_per_s: float


class Outage(msgspec.Struct, frozen=True):
    """An outage as it is kept; ``drain_s`` from the start of Postgres until it has every event."""

    at: str
    seed: int
    partitions: int
    policy: Acknowledge
    minutes: float
    course: list[Minute]
    redis_mb_before: float
    backlog: int
    drain_s: float
    findings: list[str]
    audit: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.findings and not self.audit


def beside(history: Path) -> Path:
    """Where outages are kept."""
    return history.with_name(f"{history.stem}-outages.jsonl")


async def play(minutes: float, seed: int, ground: Ground, kept: Path, say: Callable[[str], None]) -> Outage:
    """Play one. Raises ``StoppedError`` where a signal ended it."""
    found = None
    async with open_system(WRITERS * PEOPLE_PER_WRITER, ground) as system:
        found = await _played(minutes, seed, ground, system, kept.with_suffix(".acks"), say)
    if found is None:
        raise StoppedError
    return found


async def _played(
    minutes: float, seed: int, ground: Ground, system: System, acks: Path, say: Callable[[str], None]
) -> Outage:
    course: list[Minute] = []
    drain_s, findings, audit = 0.0, [], {}
    before_mb = 0.0
    try:
        async with load(system, Random(seed), WRITERS, PAUSE_S):
            await asyncio.sleep(BEFORE_S)
            await system.until_persisted()
            before_mb = await _memory_mb(system)
            await _away(minutes, system, course, say)
            drain_s = await _drained(system)
            say(f"Postgres is back and has everything after {drain_s:.1f} s")
        await drained(system)
        verdict = await judged(system, acks)
        findings = [f"{f.figure}: {f.words}" for f in verdict.findings[:FINDINGS_KEPT]]
        audit = verdict.audit
    except TROUBLE as trouble:
        findings = [f"stuck: {trouble}"]
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    backlog = course[-1].backlog if course else 0
    return Outage(
        at,
        seed,
        ground.partitions,
        ground.policy,
        minutes,
        course,
        before_mb,
        backlog,
        drain_s,
        findings,
        audit,
    )


async def _away(minutes: float, system: System, course: list[Minute], say: Callable[[str], None]) -> None:
    """Kill Postgres, keep it away, tell every minute."""
    await system.take_away_postgres()
    since = await system.last_events()
    end_s = system.history.now_s() + minutes * MINUTE_S
    while (left_s := end_s - system.history.now_s()) > 0:
        began_s = system.history.now_s()
        await asyncio.sleep(min(MINUTE_S, left_s))
        course.append(await _minute(system, since, began_s))
        say(_words(course[-1], len(course)))
    await system.bring_back_postgres()


async def _minute(system: System, since: int, began_s: float) -> Minute:
    now_s = system.history.now_s()
    told = [_told(system.history, act, began_s) / (now_s - began_s) for act in ("book", "cancel")]
    backlog = await system.last_events() - since
    return Minute(round(now_s, 1), await _memory_mb(system), backlog, round(told[0], 1), round(told[1], 1))


def _told(history: History, act: str, since_s: float) -> int:
    """Acknowledged since then; the newest are the last."""
    count = 0
    for op in reversed(history.ops):
        if op.sent_s < since_s:
            break
        count += op.act == act and op.outcome == "ok"
    return count


async def _drained(system: System) -> float:
    """Until Postgres has what was booked while it was away, and what came meanwhile."""
    began = time.monotonic()
    await system.until_persisted(DRAIN_S_MAX)
    await system.until_running()
    return round(time.monotonic() - began, 1)


async def _memory_mb(system: System) -> float:
    return round(await system.redis_memory_bytes() / MEGA, 1)


def _words(minute: Minute, number: int) -> str:
    return (
        f"minute {number}: Redis {minute.redis_mb:.0f} MB, backlog {minute.backlog:,} events,"
        f" {minute.bookings_per_s:.0f} bookings/s, {minute.cancellations_per_s:.0f} cancellations/s"
    )
