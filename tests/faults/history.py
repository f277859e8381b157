"""What clients asked and were told: one record for each person of a request, with its times.

A request's outcome is ``ok`` (acknowledged), ``refused`` (final), ``away`` (503: nothing was written, ask
again) or ``unknown``. An unknown one with a status was answered 202: it is past its deadline and cannot
happen later. Without a status no answer came at all: a copy may still be on its way.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

Act = Literal["book", "hold", "confirm", "extend", "move", "drop", "cancel"]
# Those that begin a course, and those that say which seats it has from then on.
BEGINS = frozenset({"book", "hold"})
SEATS = BEGINS | {"move", "drop"}
Outcome = Literal["ok", "refused", "away", "unknown"]
Seat = tuple[int, int, int, int]


class Op(msgspec.Struct, gc=False):
    """What a request was for one person. Times are seconds of one monotonic clock.

    ``generation`` and ``location`` say which course is to be changed; of an acknowledged beginning they are
    the answer's, as ``seats`` are: (dose, session, slot, seat). ``op_key``: the idempotency key as rows have
    it. ``until_ms``: the end of a hold, as it was told. ``revision``: at least that of the course then.
    ``members``: of a household, ``member`` which of them. ``is_rival``: it was sent beside another change.
    ``is_poll``: it only asked at the address ``status_at`` that an earlier answer (202) gave.
    """

    act: Act
    person: str
    key: str
    op_key: str
    sent_s: float
    generation: int = 0
    location: int = 0
    answered_s: float = float("inf")
    outcome: Outcome = "unknown"
    status: int = 0
    words: str = ""
    reference: str = ""
    seats: tuple[Seat, ...] = ()
    until_ms: int = 0
    revision: int = 1
    member: int = 0
    members: int = 1
    is_rival: bool = False
    is_poll: bool = False
    status_at: str = ""


class History:
    """All requests of a run, those under way, and who waits for the next acknowledged one."""

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.unanswered = 0
        # Of each write that was answered 202: when it was first, and when its outcome was known.
        self.resolved: list[tuple[float, float]] = []
        self._began = time.monotonic()
        self._waiting: list[tuple[float, Callable[[Op], bool], asyncio.Future[float]]] = []

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def sent(self, ops: Sequence[Op]) -> None:
        """A request leaves."""
        self.ops += ops
        self.unanswered += 1

    def ended(self, ops: Sequence[Op]) -> None:
        """It was answered, or given up."""
        self.unanswered -= 1
        for op in ops:
            if op.outcome == "ok" and not op.is_poll:
                self._tell(op)

    def _tell(self, op: Op) -> None:
        for after_s, counts, future in self._waiting:
            if op.sent_s >= after_s and not future.done() and counts(op):
                future.set_result(op.answered_s)

    async def first_ok(
        self, after_s: float, timeout_s: float, counts: Callable[[Op], bool] = lambda op: True
    ) -> float:
        """When a write that counts, sent after ``after_s``, was acknowledged. Raises ``TimeoutError``."""
        future: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        waiting = (after_s, counts, future)
        self._waiting.append(waiting)
        try:
            return await asyncio.wait_for(future, timeout_s)
        finally:
            self._waiting.remove(waiting)
