"""One round: the system under load, every class of faults once, a drain, and the verdict.

Each round has empty stores and a history of its own. Where something does not come back in time, the round
ends with ``StuckError`` and says what it waited for.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import msgspec

from engine.cli.audit import audit
from engine.domain.course import Appointment
from engine.recovery.acks import AckWriter
from engine.recovery.audit import Report
from tests.faults.checker import Finding, check, check_outboxes
from tests.faults.history import History, Op
from tests.faults.strikes import CLASSES, FaultClass
from tests.faults.system import System, open_system
from tests.faults.writers import DEADLINE_S, WRITERS, Desk, Once, Writer

PEOPLE_PER_WRITER = 6
UNANSWERED_WANTED = 100
WANTED_S_MAX = 3.0
REST_S = (0.2, 0.6)
RECOVERED_S_MAX = 60.0
DRAIN_S_MAX = 90.0
# With several partitions a claim whose caller died is resolved by the second sweep that sees it.
IN_DOUBT_S_MAX = 60.0
FINDINGS_KEPT = 20


class StuckError(Exception):
    """The system did not come back; the message says after what and from what."""


class Struck(msgspec.Struct):
    """One fault, and the findings that are blamed on it.

    ``recovery_s`` is the time from its end until a write that was sent later is acknowledged, ``persisted_s``
    until every child runs and Postgres has everything again.
    """

    name: str
    at_s: float
    unanswered: int
    recovery_s: float
    persisted_s: float
    figures: dict[str, int]


class Round(msgspec.Struct):
    """A round as it is kept. ``unattributed`` are findings that no client's answer dates."""

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

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        counts = [*self.unattributed.values(), *self.audit.values()]
        return not self.findings and not any(counts)


async def play(
    seed: int,
    partitions: int,
    say: Callable[[str], None],
    kept: Path,
    *,
    is_short: bool,
    classes: Sequence[FaultClass] = CLASSES,
) -> Round:
    """Play one round. ``kept`` is where the history of a round that is not clean is written."""
    began, chance, history, is_over = time.monotonic(), Random(seed), History(), False
    async with open_system(WRITERS * PEOPLE_PER_WRITER, partitions) as system:
        async with _load(system, history, chance):
            faults = []
            for fault in chance.sample(classes, len(classes)):
                faults.append(await _strike(fault, system, history, chance, is_short=is_short))
                say(_words(faults[-1]))
        await _drained(system)
        findings, exposed = await _check(system, history)
        report = await _audited(system, history, kept.with_suffix(".acks"))
        is_over = True
    if not is_over:
        # The supervisor leaves its block without an error then.
        raise StuckError("stopped by a signal: this round says nothing")
    for finding in findings:
        _blame(finding, faults)
    round_ = Round(
        at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        seed=seed,
        partitions=partitions,
        seconds=round(time.monotonic() - began, 1),
        outcomes=dict(Counter(_outcome(op) for op in history.ops)),
        exposed=exposed,
        replies_lost=system.proxy.lost,
        faults=faults,
        unattributed=dict(Counter(f.figure for f in findings if f.at_s is None)),
        audit={name: count for name, count in report.figures.items() if count},
        findings=[f"{f.figure}: {f.words}" for f in findings[:FINDINGS_KEPT]]
        + [f"audit: {name}: {words[0]}" for name, words in report.first.items()],
    )
    if not round_.is_clean:
        _keep(history, kept)
    return round_


@asynccontextmanager
async def _load(system: System, history: History, chance: Random) -> AsyncIterator[None]:
    """Writers at work; at the end they resolve what they do not know yet."""
    client = Once(system.url, connections_max=2 * WRITERS, deadline_s=DEADLINE_S)
    desk, stop = Desk(client, history, system.references), asyncio.Event()
    shares = [system.people[n::WRITERS] for n in range(WRITERS)]
    writers = [Writer(desk, share, system.places, Random(chance.random()), stop) for share in shares]
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


async def _strike(
    fault: FaultClass, system: System, history: History, chance: Random, *, is_short: bool
) -> Struck:
    """Strike while much is unanswered, and wait until the system is whole again."""
    await asyncio.sleep(chance.uniform(*REST_S))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WANTED_S_MAX):
            while history.unanswered < UNANSWERED_WANTED:
                await asyncio.sleep(0.001)
    at_s, unanswered = history.now_s(), history.unanswered
    try:
        await fault.strike(system, chance, is_short)
        over_s = history.now_s()
        recovered_s = await history.first_ok(over_s, RECOVERED_S_MAX)
        await system.until_running()
        await system.until_persisted()
    except TimeoutError:
        raise StuckError(f"{fault.name}: the system did not come back in {RECOVERED_S_MAX:.0f} s") from None
    persisted_s = history.now_s() - over_s
    return Struck(
        fault.name, round(at_s, 3), unanswered, round(recovered_s - over_s, 3), round(persisted_s, 3), {}
    )


async def _drained(system: System) -> None:
    try:
        await system.until_running()
        await system.until_persisted()
    except TimeoutError:
        raise StuckError("the system did not come to rest at the end") from None


async def _check(system: System, history: History) -> tuple[list[Finding], int]:
    rows = await system.rows()
    checked = check(history.ops, rows, system.sizes)
    gaps = check_outboxes(await system.outboxes(), rows, await system.quarantined())
    return checked.findings + gaps, checked.exposed


async def _audited(system: System, history: History, acks: Path) -> Report:
    """The system's own audit, with the clients' log; claims in doubt are given the time of the sweep."""
    await asyncio.to_thread(acks.unlink, missing_ok=True)
    await asyncio.to_thread(_write_acks, history.ops, acks)
    try:
        deadline = time.monotonic() + IN_DOUBT_S_MAX
        while True:
            report = await audit(system.settings, [acks], lambda line: None)
            wrong = {name for name, count in report.figures.items() if count}
            if wrong != {"in_doubt"} or system.settings.partitions == 1 or time.monotonic() > deadline:
                return report
            await asyncio.sleep(1)
    finally:
        await asyncio.to_thread(acks.unlink)


def _write_acks(ops: Sequence[Op], path: Path) -> None:
    """The acknowledgements as the audit reads them, in the order in which clients knew."""
    lines = [(op.sent_s, "asking-cancel", op) for op in ops if op.act == "cancel"]
    lines += [(op.answered_s, op.act, op) for op in ops if op.outcome == "ok"]
    with AckWriter(path) as log:
        for at_s, name, op in sorted(lines, key=lambda line: line[0]):
            seats = [Appointment(*seat) for seat in op.seats]
            log.by_reference(name, op.reference, seats, int(at_s * 1000))  # type: ignore[arg-type]  # an OpName


def _blame(finding: Finding, faults: list[Struck]) -> None:
    """Count a finding under the last fault before it was learned."""
    if finding.at_s is None:
        return
    before = [fault for fault in faults if fault.at_s <= finding.at_s] or faults[:1]
    figures = before[-1].figures
    figures[finding.figure] = figures.get(finding.figure, 0) + 1


def _keep(history: History, path: Path) -> None:
    path.write_bytes(b"".join(msgspec.json.encode(op) + b"\n" for op in history.ops))


def _outcome(op: Op) -> str:
    """Acknowledged, refused, away, unknown; those that the engine failed on by name."""
    return op.words if op.words == "internal" else op.outcome


def _words(struck: Struck) -> str:
    return (
        f"{struck.name}: {struck.unanswered} unanswered, writable after {struck.recovery_s:.2f} s,"
        f" persisted after {struck.persisted_s:.2f} s"
    )
