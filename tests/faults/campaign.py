"""One round: the system under load, every class of faults once, a drain, and the verdict.

Each round has empty stores and a history of its own. Where something does not come back in time, the round
ends there and says what it waited for.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import asyncpg
import msgspec
from redis.exceptions import RedisError

from engine.cli.audit import audit
from engine.recovery.audit import Report
from engine.servers.errors import ServerError
from engine.settings import Acknowledge
from tests.faults.acks import acts_of, write_acks
from tests.faults.checker import EXPIRED, Finding, check, check_outboxes
from tests.faults.desk import Desk, Once
from tests.faults.history import History, Op
from tests.faults.strikes import SAFE, FaultClass
from tests.faults.system import HOLD_S, Ground, System, open_system
from tests.faults.trouble import StoppedError, StuckError
from tests.faults.writers import DEADLINE_S, WRITERS, Writer

PEOPLE_PER_WRITER = 6
UNANSWERED_WANTED = 100
WANTED_S_MAX = 3.0
REST_S = (0.2, 0.6)
RECOVERED_S_MAX = 60.0
DRAIN_S_MAX = 150.0
# With several partitions a claim whose caller died is resolved by the second sweep that sees it.
IN_DOUBT_S_MAX = 60.0
# The clock of Redis' host may have been set back: a hold ends by the partition's clock, which goes on.
HOLDS_OVER_S_MAX = HOLD_S + 30.0
FINDINGS_KEPT = 20
# How long before a fault that empties Redis an answer may have been given that is lost with it.
REACH_S = 2.0
TROUBLE = (
    StuckError,
    ServerError,
    RedisError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    OSError,
    EOFError,
)


class Struck(msgspec.Struct):
    """One fault, and the findings that are blamed on it.

    ``recovery_s`` is the time from its end until a write that was sent later is acknowledged (where one of
    several masters was struck, a write for its partitions), ``persisted_s`` until every child runs and
    Postgres has everything again. ``pending`` writes were answered 202; ``resolved_s`` is the longest time
    from that answer, or from the end of the fault, until one was known.
    ``from_s``: what was acknowledged since then may be lost by it, where it takes away what Redis had.
    """

    name: str
    at_s: float
    unanswered: int
    recovery_s: float
    persisted_s: float
    figures: dict[str, int]
    lasted_s: float | None = None
    pending: int = 0
    resolved_s: float | None = None
    from_s: float | None = None

    @property
    def over_s(self) -> float:
        """When the fault itself was over."""
        return self.at_s + (self.lasted_s or 0.0)


class Round(msgspec.Struct):
    """A round as it is kept. ``unattributed`` are findings that no client's answer dates.

    ``stuck`` says why it ended before its verdict. ``acts`` counts what was acknowledged and done, by kind.
    """

    at: str
    seed: int
    partitions: int
    seconds: float
    outcomes: dict[str, int]
    exposed: int
    replies_lost: int
    faults: list[Struck]
    unattributed: dict[str, int]
    audit: dict[str, int]
    findings: list[str]
    policy: Acknowledge = Acknowledge.FSYNC
    stuck: str = ""
    acts: dict[str, int] = {}

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        counts = [*self.unattributed.values(), *self.audit.values()]
        return not self.findings and not any(counts) and not self.stuck


class Plan(msgspec.Struct, frozen=True):
    """What a round does. ``kept`` is where the history of a round that is not clean is written."""

    seed: int
    ground: Ground
    classes: tuple[FaultClass, ...]
    kept: Path
    is_short: bool = False


class Verdict(msgspec.Struct):
    """What was found, by nobody's account or by the audit's."""

    findings: list[Finding] = []
    exposed: int = 0
    audit: dict[str, int] = {}
    first: dict[str, list[str]] = {}
    expired: int = 0


async def play(plan: Plan, say: Callable[[str], None]) -> Round:
    """Play one round. Raises ``StoppedError`` where a signal ended it."""
    began, chance = time.monotonic(), Random(plan.seed)
    faults: list[Struck] = []
    verdict, stuck, is_over = Verdict(), "", False
    async with open_system(WRITERS * PEOPLE_PER_WRITER, plan.ground) as system:
        try:
            await _struck(plan, system, chance, faults, say)
            await drained(system)
            verdict = await judged(system, plan.kept.with_suffix(".acks"))
        except TROUBLE as trouble:
            stuck = str(trouble) or type(trouble).__name__
            say(f"stuck: {stuck}")
        is_over = True
    if not is_over:
        # The supervisor leaves its block without an error then.
        raise StoppedError
    history = system.history
    blame(verdict.findings, faults)
    resolved(history.resolved, faults)
    round_ = Round(
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seed=plan.seed,
        partitions=plan.ground.partitions,
        seconds=round(time.monotonic() - began, 1),
        outcomes=dict(Counter(_outcome(op) for op in history.ops if not op.member)),
        exposed=verdict.exposed,
        replies_lost=0 if plan.ground.is_cluster else system.proxy.lost,
        faults=faults,
        unattributed=dict(Counter(f.figure for f in verdict.findings if f.at_s is None)),
        audit=verdict.audit,
        findings=[f"{f.figure}: {f.words}" for f in verdict.findings[:FINDINGS_KEPT]]
        + [f"audit: {name}: {words[0]}" for name, words in verdict.first.items()],
        policy=plan.ground.policy,
        stuck=stuck,
        acts=acts_of(history.ops, verdict.expired),
    )
    if not round_.is_clean:
        _keep(history, plan.kept)
    return round_


async def _struck(
    plan: Plan, system: System, chance: Random, faults: list[Struck], say: Callable[[str], None]
) -> None:
    """Every class once, under load."""
    async with load(system, chance):
        for fault in chance.sample(plan.classes, len(plan.classes)):
            faults.append(await _strike(fault, system, chance, is_short=plan.is_short))
            say(_words(faults[-1]))


@asynccontextmanager
async def load(
    system: System, chance: Random, count: int = WRITERS, pause_s: float = 0.0
) -> AsyncIterator[None]:
    """Writers at work; at the end they resolve what they do not know yet. ``pause_s``: before each write."""
    client = Once(system.url, connections_max=2 * count, deadline_s=DEADLINE_S)
    desk, stop = Desk(client, system.history, system.references), asyncio.Event()
    shares = [system.people[n::count] for n in range(count)]
    writers = [Writer(desk, share, system.places, Random(chance.random()), stop, pause_s) for share in shares]
    working = [asyncio.create_task(writer.run()) for writer in writers]
    try:
        yield
        stop.set()
        await asyncio.wait_for(asyncio.gather(*working), DRAIN_S_MAX)
    finally:
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)
        await client.close()


async def _strike(fault: FaultClass, system: System, chance: Random, *, is_short: bool) -> Struck:
    """Strike while much is unanswered, and wait until the system is whole again."""
    history = system.history
    await asyncio.sleep(chance.uniform(*REST_S))
    from_s = history.now_s() - REACH_S if fault.policies == SAFE else None
    system.struck = frozenset()
    if fault.prepare is not None:
        await fault.prepare(system, chance, is_short)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WANTED_S_MAX):
            while history.unanswered < UNANSWERED_WANTED:
                await asyncio.sleep(0.001)
    at_s, unanswered = history.now_s(), history.unanswered
    over_s, waiting_for = at_s, "the fault to be over"
    try:
        await fault.strike(system, chance, is_short)
        over_s, waiting_for = history.now_s(), "a write"
        recovered_s = await history.first_ok(over_s, RECOVERED_S_MAX, system.shows)
        waiting_for = "every process and Postgres"
        await system.until_running()
        await system.until_persisted()
    except TimeoutError as late:
        raise StuckError(f"{fault.name}: waited in vain for {waiting_for} {late}".rstrip()) from None
    return Struck(
        name=fault.name,
        at_s=round(at_s, 3),
        unanswered=unanswered,
        recovery_s=round(recovered_s - over_s, 3),
        persisted_s=round(history.now_s() - over_s, 3),
        figures={},
        lasted_s=round(over_s - at_s, 3),
        from_s=from_s,
    )


async def drained(system: System) -> None:
    """Wait until Postgres has everything, and no hold runs any more. Raises ``StuckError``."""
    try:
        await system.until_running()
        await system.until_persisted()
        # One that never ends is a finding, not trouble.
        with contextlib.suppress(TimeoutError):
            await system.until_holds_are_over(HOLDS_OVER_S_MAX)
    except TimeoutError:
        raise StuckError("the system did not come to rest at the end") from None


async def judged(system: System, acks: Path) -> Verdict:
    """The audit's findings, which waits for what is in doubt; then the checker's."""
    report = await audited(system, acks)
    try:
        await system.until_persisted()
    except TimeoutError:
        raise StuckError("the system did not come to rest after the audit") from None
    rows = await system.rows()
    checked = check(system.history.ops, rows, system.sizes)
    quarantined, past, parts = (
        await system.quarantined(),
        await system.past_events(),
        await system.part_events(),
    )
    gaps = check_outboxes(await system.outboxes(), rows, quarantined, past, parts)
    wrong: dict[str, int] = {name: count for name, count in report.figures.items() if count}
    first: dict[str, list[str]] = {str(name): words for name, words in report.first.items()}
    expired = sum(change.act == EXPIRED for row in rows for change in row.changes)
    return Verdict(checked.findings + gaps, checked.exposed, wrong, first, expired)


async def audited(system: System, acks: Path) -> Report:
    """The system's own audit, with the clients' log; claims in doubt are given the time of the sweep."""
    await asyncio.to_thread(acks.unlink, missing_ok=True)
    await asyncio.to_thread(write_acks, system.history.ops, acks)
    try:
        deadline = time.monotonic() + IN_DOUBT_S_MAX
        while True:
            report = await audit(system.settings, [acks], lambda line: None)
            wrong = {name for name, count in report.figures.items() if count}
            if "in_doubt" not in wrong or system.settings.partitions == 1 or time.monotonic() > deadline:
                return report
            await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(acks.unlink)


def blame(findings: Sequence[Finding], faults: Sequence[Struck]) -> None:
    """Count each finding under one fault: the last before it was learned, or one that reaches back to it."""
    for finding in findings:
        if finding.at_s is None or not faults:
            continue
        figures = _culprit(finding.at_s, faults).figures
        figures[finding.figure] = figures.get(finding.figure, 0) + 1


def _culprit(at_s: float, faults: Sequence[Struck]) -> Struck:
    reaching = [f for f in faults if f.from_s is not None and f.from_s <= at_s <= f.over_s]
    before = [fault for fault in faults if fault.at_s <= at_s]
    return (reaching or before[-1:] or list(faults))[0]


def resolved(times: Sequence[tuple[float, float]], faults: Sequence[Struck]) -> None:
    """How long after it was told 202, or after the fault, each such write was known.

    The time in which the system was away once more, because of a later fault, does not count.
    """
    for pending_s, known_s in times:
        before = [fault for fault in faults if fault.at_s <= pending_s]
        if before:
            fault = before[-1]
            fault.pending += 1
            since_s = max(pending_s, fault.over_s)
            took_s = known_s - since_s - _away_s(since_s, known_s, faults[len(before) :])
            fault.resolved_s = round(max(took_s, fault.resolved_s or 0.0), 3)


def _away_s(since_s: float, until_s: float, faults: Sequence[Struck]) -> float:
    """Seconds between two instants in which faults held and were recovered from."""
    away = [(max(f.at_s, since_s), min(f.over_s + f.recovery_s, until_s)) for f in faults]
    return sum(max(0.0, end_s - start_s) for start_s, end_s in away)


def _keep(history: History, path: Path) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(op) + b"\n" for op in history.ops))


def _outcome(op: Op) -> str:
    """Acknowledged, refused, away, unknown; those that the engine failed on by name."""
    return op.words if op.words == "internal" else op.outcome


def _words(struck: Struck) -> str:
    return (
        f"{struck.name}: {struck.lasted_s or 0.0:.1f} s, {struck.unanswered} unanswered, writable after"
        f" {struck.recovery_s:.2f} s,"
        f" persisted after {struck.persisted_s:.2f} s"
    )
