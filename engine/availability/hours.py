"""At which local times of day a session's slots begin, and which slots a window of the day admits.

A session's slots are equally long in absolute time; where the clocks change during a session, its local times
jump. A window may pass midnight. Pure; nothing fails.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, time
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from engine.domain.capacity import Session

DAY_MINUTES = 24 * 60
_CACHED_WINDOWS_MAX = 4_096


class Hours(NamedTuple):
    """So many minutes of the local day, from minute ``start`` on, past midnight too."""

    start: int
    minutes: int

    def has(self, minute: int) -> bool:
        """Whether that minute of the day is among them."""
        return (minute - self.start) % DAY_MINUTES < self.minutes


def between(after: time, before: time | None) -> Hours | None:
    """From ``after`` (included) to ``before`` (left out), to the minute; None where that is the whole day."""
    start = _minute(after)
    if before is None:
        return Hours(start, DAY_MINUTES - start) if start else None
    return Hours(start, (_minute(before) - start) % DAY_MINUTES or DAY_MINUTES)


def around(minutes: Sequence[int], tolerance_minutes: int) -> Hours:
    """From the first of ``minutes`` less the tolerance to the last of them and the tolerance."""
    span = (minutes[-1] - minutes[0]) % DAY_MINUTES
    return Hours(minutes[0] - tolerance_minutes, span + 2 * tolerance_minutes + 1)


def minutes_apart(one: int, other: int) -> int:
    """How far two minutes of the day are from each other, over midnight where that is shorter."""
    apart = abs(one - other) % DAY_MINUTES
    return min(apart, DAY_MINUTES - apart)


def minute_of(session: Session, slot: int, clock: ZoneInfo) -> int:
    """The local minute of the day at which the slot begins."""
    return _minute(session.slot_starts_at(slot).astimezone(clock))


def slots_within(session: Session, clock: ZoneInfo, windows: tuple[Hours, ...]) -> Sequence[int]:
    """The slots that begin in all of these windows, ascending."""
    if not windows:
        return range(session.slots)
    first = session.starts_at.astimezone(clock)
    if first.utcoffset() == session.slot_starts_at(session.slots - 1).astimezone(clock).utcoffset():
        return _even_slots(_minute(first), session.slot_minutes, session.slots, windows)
    minutes = (minute_of(session, slot, clock) for slot in range(session.slots))
    return _admitted(minutes, windows)


@lru_cache(_CACHED_WINDOWS_MAX)
def _even_slots(first: int, step: int, count: int, windows: tuple[Hours, ...]) -> tuple[int, ...]:
    """The clocks do not change: every session with the same opening hours has the same slots."""
    return _admitted(((first + step * slot) % DAY_MINUTES for slot in range(count)), windows)


def _admitted(minutes: Iterable[int], windows: tuple[Hours, ...]) -> tuple[int, ...]:
    return tuple(slot for slot, minute in enumerate(minutes) if all(window.has(minute) for window in windows))


def _minute(at: time | datetime) -> int:
    return at.hour * 60 + at.minute
