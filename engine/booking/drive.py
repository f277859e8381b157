"""Drives a use case by callbacks, so that a caller who goes away stops nothing, and a booking costs no task.

``start`` returns a future. Cancelling it ends the waiting only: the steps go on to their outcome, as they
must once the first of them was sent. A fault of a call is raised in the steps, which may send what tidies up,
and then ends the use case; it is raised again where the future is awaited.
"""

import asyncio
from typing import Generic, TypeVar

from engine.booking.steps import Call, Sender, Steps

Outcome = TypeVar("Outcome")
NOTHING = b""


def start(steps: Steps[Outcome], sender: Sender) -> "asyncio.Future[Outcome]":
    """Send the first call now; the outcome comes with the future."""
    return _Drive(steps, sender).outcome


class _Drive(Generic[Outcome]):
    __slots__ = ("_sender", "_steps", "outcome")

    def __init__(self, steps: Steps[Outcome], sender: Sender) -> None:
        self._steps = steps
        self._sender = sender
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._go_on(None)

    def _go_on(self, answer: bytes | None, fault: BaseException | None = None) -> None:
        """Send calls up to the next one whose answer is needed. The steps hear of a fault where they wait."""
        try:
            while True:
                call = self._next(answer, fault)
                fault = None
                future = self._sender.put(call.partition, call.record)
                if call.awaited:
                    future.add_done_callback(self._answered)
                    return
                answer = NOTHING
        except StopIteration as end:
            if not self.outcome.done():
                self.outcome.set_result(end.value)
        except Exception as fault:
            self._fail(fault)

    def _answered(self, future: "asyncio.Future[bytes]") -> None:
        fault = future.exception()
        if fault is None:
            self._go_on(future.result())
        else:
            self._go_on(None, fault)

    def _next(self, answer: bytes | None, fault: BaseException | None) -> Call:
        if fault is not None:
            return self._steps.throw(fault)
        return next(self._steps) if answer is None else self._steps.send(answer)

    def _fail(self, fault: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(fault)
            # Read here too: the caller may never look.
            self.outcome.exception()
