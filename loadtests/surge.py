"""The evening of 12 July 2021 in a minute: `python -m loadtests.surge --url http://127.0.0.1:PORT …`.

People come when the curve says (`profile.py`), whether or not those before them were served: beyond
``--at-once`` they wait in line, and the line is counted. Standard output is one JSON line each half second
with the counts so far, and a last one with ``"end": true``. Exit status 1 if anybody stayed unanswered or got
an answer that the protocol does not have. SIGTERM or SIGINT: nobody more is let in, who is being served has
`STOP_S` to end, then the last line is printed, with the others unanswered.
"""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
import time
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import uvloop

from engine.recovery.acks import AckWriter
from loadtests.citizen import (
    BOOK_AGAIN_SHARE,
    CANCEL_SHARE,
    DOUBLE_CLICK_SHARE,
    DROP_SHARE,
    HOLD_SHARE,
    MOVE_SHARE,
    Desk,
    visit_together,
)
from loadtests.figures import Figures
from loadtests.http import Client, NotLoopback, loopback_address
from loadtests.people import Person, people
from loadtests.profile import arrivals

SEED = 20210712
CITIZENS_PER_SECOND = 450
SECONDS_MIN = 4.0
AT_ONCE = 256
THINK_S = 0.25
LINE_EVERY_S = 0.5
STOP_S = 3.0
DEADLINE_S = 15.0
HOUSEHOLD_SHARE, HOUSEHOLD_MEMBERS = 0.04, 2

DESCRIPTION = f"""\
Sends a surge of people to a running dosebook on this machine, shaped like the evening of 12 July 2021:
visitors rise fourfold in a quarter of an hour, then fall off until midnight, compressed into --seconds.

Everyone is invented and distinct, lives where the inhabitants of France live, registers, searches near
home, books both doses, and after a refusal takes an alternative or searches farther away. After a 503, a
time-out or a lost connection they wait and repeat with the same Idempotency-Key. As real people do,
  {DOUBLE_CLICK_SHARE:.0%} click twice (the same key twice at once: both clicks must get one answer),
  {BOOK_AGAIN_SHARE:.0%} of people book again with a new key (must be refused: already-booked),
  {CANCEL_SHARE:.0%} of people cancel afterwards, {DROP_SHARE:.0%} give up the second dose,
  {HOLD_SHARE:.0%} hold the seats first and confirm them, {MOVE_SHARE:.0%} of people move both doses,
  {HOUSEHOLD_SHARE:.0%} of people come with somebody else and try to book together.
Every write that was acknowledged is appended to --acks before the person counts as booked.
"""


def main() -> int:
    """Parse, run, exit status."""
    args = _parse(sys.argv[1:])
    try:
        loopback_address(args.url)
    except NotLoopback as error:
        sys.stderr.write(f"surge: {error}\n")
        return 2
    return uvloop.run(_surge(args))


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtests.surge",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", required=True, help="address of the API, on this machine")
    add("--citizens", type=int, default=20_000, metavar="N", help="people who come (20000)")
    add("--acks", type=Path, required=True, metavar="FILE", help="acknowledgement log, added to")
    add("--seed", type=int, default=SEED, metavar="S", help="the same one draws the same people and choices")
    add("--run", type=int, default=0, metavar="R", help="another number has people of other names (0)")
    length = f"the evening's length (default: a second for each {CITIZENS_PER_SECOND} people)"
    add("--seconds", type=float, default=0, metavar="T", help=length)
    add("--at-once", type=int, default=AT_ONCE, metavar="N", help=f"people served at once ({AT_ONCE})")
    add("--think", type=float, default=THINK_S, metavar="T", help=f"mean seconds to choose ({THINK_S})")
    return parser.parse_args(argv)


async def _surge(args: argparse.Namespace) -> int:
    # Two clicks at once need a connection each.
    client = Client(args.url, connections_max=args.at_once * 2, deadline_s=DEADLINE_S)
    figures = Figures(args.citizens)
    acknowledgements = AckWriter(args.acks)
    desk = Desk(client, figures, acknowledgements, args.seed, max(args.think, 1e-6))
    try:
        await Evening(desk, args).run()
    finally:
        acknowledgements.close()
        await client.close()
    return 1 if figures.failed else 0


class Evening:
    """People arrive, wait in line, are served ``--at-once``; lines are printed meanwhile."""

    def __init__(self, desk: Desk, args: argparse.Namespace) -> None:
        self._desk = desk
        self._figures = desk.figures
        self._at_once = args.at_once
        seconds = args.seconds or max(SECONDS_MIN, args.citizens / CITIZENS_PER_SECOND)
        today = datetime.now(UTC).date()
        self._people = list(people(args.citizens, args.run, args.seed, today))
        self._arrivals = arrivals(args.citizens, seconds, Random(args.seed))
        self._apart = Random(args.seed + 1)
        self._line: asyncio.Queue[tuple[float, list[Person]] | None] = asyncio.Queue()
        self._closed = asyncio.Event()

    async def run(self) -> None:
        """Until everyone is answered, or a signal and `STOP_S`."""
        gc.freeze()
        self._began = time.monotonic()
        serving = [self._task(self._serve()) for _ in range(min(self._at_once, len(self._people)))]
        others = [self._task(self._arrive()), self._task(self._print_lines())]
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._closed.set)
        closing = self._task(self._close(serving))
        await asyncio.wait(serving)
        for task in (*others, closing):
            task.cancel()
        await asyncio.gather(*others, closing, return_exceptions=True)
        self._figures.unanswered = len(self._people) - self._figures.answered
        _print(self._figures.total(self._seconds()))
        for task in serving:
            if not task.cancelled():
                task.result()

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        return asyncio.create_task(work)

    def _seconds(self) -> float:
        return time.monotonic() - self._began

    async def _arrive(self) -> None:
        """Everyone who is due joins the line; at the end, a sign for each that serves."""
        waiting: list[Person] = []
        for due, person in zip(self._arrivals, self._people, strict=True):
            while (early := due - self._seconds()) > 0:
                await asyncio.sleep(early)
            self._figures.arrived += 1
            waiting.append(person)
            # Who does not come alone waits for the next.
            if len(waiting) == HOUSEHOLD_MEMBERS or self._apart.random() >= HOUSEHOLD_SHARE / 2:
                self._line.put_nowait((due, waiting))
                waiting = []
        if waiting:
            self._line.put_nowait((self._seconds(), waiting))
        self._end_of_line()

    def _end_of_line(self) -> None:
        for _ in range(self._at_once):
            self._line.put_nowait(None)

    async def _serve(self) -> None:
        """One after the other, from the line."""
        while not self._closed.is_set() and (arrival := await self._line.get()) is not None:
            due, people = arrival
            self._figures.begun += len(people)
            self._figures.wait_ms.add((self._seconds() - due) * 1000)
            answered = await visit_together(people, self._desk)
            self._figures.answered += answered
            self._figures.unanswered += len(people) - answered

    async def _close(self, serving: list[asyncio.Task[None]]) -> None:
        """After a signal: those being served may end, those in line may not begin."""
        await self._closed.wait()
        self._end_of_line()
        await asyncio.wait(serving, timeout=STOP_S)
        for task in serving:
            task.cancel()

    async def _print_lines(self) -> None:
        for number in _naturals():
            await asyncio.sleep(number * LINE_EVERY_S - self._seconds())
            _print(self._figures.line(self._seconds()))


def _naturals() -> Iterator[int]:
    number = 0
    while True:
        number += 1
        yield number


def _print(line: dict[str, object]) -> None:
    """A reader that went away does not end the surge: the acknowledgement log is what counts."""
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.write(msgspec.json.encode(line).decode() + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
