"""When people come: the evening of 12 July 2021, compressed.

The table of the evening (``config/france/pic_2021-07-12.csv``) gives four facts, and they fix the curve:
visitors rise from 0.5 to 2.1 million between 20:15 and 20:30, traffic begins at 20:13, at most 20,000
bookings are made in a minute, and 926,000 by midnight. So: even before the rise, a straight rise, then an
exponential decay whose constant makes (people of the evening) ÷ (people of the fullest minute) what it was.

Invariant: the arrivals of ``arrivals(n, …)`` are n instants in ascending order within the time given.
A table without one of these rows is a `ProfileError` that names it.
"""

import csv
import re
from bisect import bisect_left
from itertools import accumulate
from math import exp
from pathlib import Path
from random import Random

import msgspec

TABLE = Path(__file__).parent.parent / "config" / "france" / "pic_2021-07-12.csv"
_STEPS_PER_MINUTE = 4
_DECAY_MINUTES_MAX = 10_000.0


class ProfileError(ValueError):
    """The table of the evening lacks a row that the curve needs."""


class Evening(msgspec.Struct, frozen=True):
    """The evening in minutes after midnight, visitors, and bookings (of the fullest minute, of all)."""

    first_minute: int
    rise_minute: int
    top_minute: int
    last_minute: int
    visitors_before: float
    visitors_top: float
    bookings_a_minute_max: float
    bookings: float

    def rate(self, minute: float, decay_minutes: float) -> float:
        """People arriving per minute, the fullest minute being 1."""
        low = self.visitors_before / self.visitors_top
        if minute < self.rise_minute:
            return low
        if minute < self.top_minute:
            return low + (1 - low) * (minute - self.rise_minute) / (self.top_minute - self.rise_minute)
        return exp(-(minute - self.top_minute) / decay_minutes)

    def decay_minutes(self) -> float:
        """The constant of the decay that gives the evening its bookings (bisection; it is monotone)."""
        low = self.visitors_before / self.visitors_top
        rising = (self.top_minute - self.rise_minute) * (1 + low) / 2
        before = (self.rise_minute - self.first_minute) * low
        wanted = self.bookings / self.bookings_a_minute_max - rising - before
        length = self.last_minute - self.top_minute
        short, long = 1e-3, _DECAY_MINUTES_MAX
        for _ in range(60):
            middle = (short + long) / 2
            short, long = (middle, long) if middle * (1 - exp(-length / middle)) < wanted else (short, middle)
        return long


def read_evening(path: Path = TABLE) -> Evening:
    """The facts of the evening from its table."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    sudden = _row(rows, "montée soudaine")
    rise = _row(rows, "visiteurs: de ")
    record = _row(rows, "rendez-vous par minute (record")
    all_bookings = _row(rows, "rendez-vous pris (personnes)")
    before = re.search(r"de (\d+) à", rise["grandeur"])
    if before is None:
        raise ProfileError("the row 'visiteurs: de … à …' does not say from how many")
    rise_minute, top_minute = _minutes(rise["quand"])
    return Evening(
        first_minute=_minutes(sudden["quand"])[0],
        rise_minute=rise_minute,
        top_minute=top_minute,
        last_minute=_minutes(all_bookings["quand"])[1],
        visitors_before=float(before[1]),
        visitors_top=float(rise["valeur"]),
        bookings_a_minute_max=float(record["valeur"]),
        bookings=float(all_bookings["valeur"]),
    )


def arrivals(count: int, seconds: float, random: Random, evening: Evening | None = None) -> list[float]:
    """Seconds after the beginning at which each of ``count`` people comes, ascending, below ``seconds``.

    Each stratum of 1/count of the evening has one arrival, at random within it: the curve is followed closely
    for small counts too.
    """
    evening = evening or read_evening()
    decay = evening.decay_minutes()
    minutes = evening.last_minute - evening.first_minute
    steps = minutes * _STEPS_PER_MINUTE
    rates = (evening.rate(evening.first_minute + (n + 0.5) / _STEPS_PER_MINUTE, decay) for n in range(steps))
    sums = list(accumulate(rates, initial=0.0))
    quantiles = ((n + random.random()) / count * sums[-1] for n in range(count))
    return [_at(sums, quantile) / steps * seconds for quantile in quantiles]


def _at(sums: list[float], quantile: float) -> float:
    """The step, and the part of it, at which the running sum reaches ``quantile``."""
    step = max(1, bisect_left(sums, quantile))
    return step - 1 + (quantile - sums[step - 1]) / (sums[step] - sums[step - 1])


def _row(rows: list[dict[str, str]], begins: str) -> dict[str, str]:
    for row in rows:
        if row["grandeur"].startswith(begins) and row["quand"].startswith("2021-07-12"):
            return row
    raise ProfileError(f"{TABLE.name} has no row of 2021-07-12 that begins {begins!r}")


def _minutes(when: str) -> tuple[int, int]:
    """``2021-07-12T20:15/20:30`` as minutes after midnight; one time twice if there is no end."""
    times = [int(hour) * 60 + int(minute) for hour, minute in re.findall(r"(\d\d):(\d\d)", when)]
    if not times:
        raise ProfileError(f"no time of day in {when!r}")
    return times[0], times[-1]
