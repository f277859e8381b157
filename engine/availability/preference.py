"""What somebody would like to book, before it is known what is free: the argument of ``plans``.

A preference names no slot; the slots found for it are wishes (``engine.domain.course.Wish``). Days and times
of day are local to each location. What the campaign's rules say of a person is not here: the caller hands it
to the search as a predicate.
"""

from datetime import date, time
from enum import StrEnum

import msgspec

EVERY_DAY = frozenset(range(7))


class Shape(StrEnum):
    """Which doses are to be found.

    ``SINGLE`` is dose 1 alone: of a vaccine of one dose, or for a person who needs no second one; the search
    takes any vaccine that the preference and the caller's predicate admit. ``SECOND`` is dose 2 alone, on the
    days of ``dose_2``. ``BOOSTER`` is dose 1 of a booster course, on the days of ``dose_1``.
    """

    PAIR = "pair"
    SINGLE = "single"
    SECOND = "second"
    BOOSTER = "booster"

    @property
    def doses(self) -> tuple[int, ...]:
        """The doses to be found, the first one first."""
        return {Shape.PAIR: (1, 2), Shape.SECOND: (2,)}.get(self, (1,))


class Order(StrEnum):
    """What is better: an earlier day, or a nearer location."""

    EARLIEST = "earliest"
    NEAREST = "nearest"


class When(msgspec.Struct, frozen=True, gc=False):
    """When a dose may be given, in local time.

    ``day_min`` and ``day_max`` are included, ``weekdays`` count from Monday = 0. The slot begins at ``after``
    or later and earlier than ``before``; where ``before`` is not later than ``after``, it is the next day's.
    """

    day_min: date = date.min
    day_max: date = date.max
    weekdays: frozenset[int] = EVERY_DAY
    after: time = time.min
    before: time | None = None


class Preference(msgspec.Struct, frozen=True, gc=False):
    """What is to be found around a point in degrees WGS84; ``vaccines`` None is any.

    ``same_time_minutes``: dose 2 begins that close to dose 1's local time of day; None does not ask for it.
    ``elsewhere``: dose 2 may be at another location where dose 1's has none that fits.
    """

    lat: float
    lon: float
    radius_km: float
    shape: Shape = Shape.PAIR
    order: Order = Order.EARLIEST
    vaccines: frozenset[str] | None = None
    dose_1: When = When()
    dose_2: When = When()
    same_time_minutes: int | None = None
    elsewhere: bool = False

    def when(self, dose: int) -> When:
        """When that dose may be given."""
        return self.dose_1 if dose == 1 else self.dose_2
