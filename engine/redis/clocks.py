"""The partitions' clocks, as this process has heard them.

Deadlines live in a partition's clock alone; between two answers this host's monotonic clock carries it on.
"""

import time

from engine import limits


class Clocks:
    """One process's knowledge of the clocks."""

    def __init__(self) -> None:
        self._heard: dict[int, tuple[int, float]] = {}

    def hear(self, partition: int, now_ms: int) -> None:
        """Note a clock that a call returned."""
        self._heard[partition] = (now_ms, time.monotonic())

    def heard(self, partition: int) -> int | None:
        """The partition's clock as its last answer told it, in ms; it has reached this at least."""
        heard = self._heard.get(partition)
        return None if heard is None else heard[0]

    def not_after(self, partition: int) -> int:
        """Deadline in ms for an operation that is sent now. Before any answer: this host's own clock."""
        heard = self._heard.get(partition)
        if heard is None:
            return int(time.time() * 1000) + limits.OPERATION_MS_MAX
        now_ms, at = heard
        return now_ms + int((time.monotonic() - at) * 1000) + limits.OPERATION_MS_MAX
