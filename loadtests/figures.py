"""What a surge counts: people, answers, latencies.

Everything is cumulative except the latencies of the last interval. Latencies go into buckets that grow by
4 %, so a quantile is at most 4 % above the true one, and memory does not grow with the number of requests.
"""

from collections import Counter, defaultdict
from math import log

import msgspec

_SMALLEST_MS = 0.05
_GROWTH = 1.04
_LOG_GROWTH = log(_GROWTH)
_BUCKETS = 400
BOOKINGS = "bookings"


class Histogram:
    """Counts of milliseconds in growing buckets, from 0.05 ms to 5 minutes; longer ones count as that."""

    def __init__(self) -> None:
        self.counts = [0] * _BUCKETS

    def add(self, ms: float) -> None:
        """Count one."""
        bucket = int(log(ms / _SMALLEST_MS) / _LOG_GROWTH) + 1 if ms > _SMALLEST_MS else 0
        self.counts[min(bucket, _BUCKETS - 1)] += 1

    def quantile(self, share: float) -> float | None:
        """The least bound in ms that ``share`` of those counted do not pass; None if none was counted."""
        total = sum(self.counts)
        if not total:
            return None
        wanted = share * total
        seen = 0
        for bucket, count in enumerate(self.counts):
            seen += count
            if seen >= wanted:
                return round(float(_SMALLEST_MS * _GROWTH**bucket), 3)
        return None

    def since(self, before: "Histogram") -> "Histogram":
        """Those counted after ``before`` was copied."""
        result = Histogram()
        result.counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return result

    def copy(self) -> "Histogram":
        """As it is now."""
        result = Histogram()
        result.counts = list(self.counts)
        return result


class Quantiles(msgspec.Struct, frozen=True):
    """Milliseconds; None where nothing was counted."""

    p50: float | None
    p99: float | None

    @classmethod
    def of(cls, histogram: Histogram) -> "Quantiles":
        """The two that are shown."""
        return cls(histogram.quantile(0.5), histogram.quantile(0.99))


class Figures:
    """The counts of a surge; `Figures.line` is what is printed."""

    def __init__(self, citizens: int) -> None:
        self.citizens = citizens
        self.arrived = 0
        self.begun = 0
        self.answered = 0
        self.unanswered = 0
        self.registered = 0
        self.searches = 0
        self.booked = 0
        self.cancelled = 0
        self.held = 0
        self.confirmed = 0
        self.moved = 0
        self.not_moved = 0
        self.second_doses_cancelled = 0
        self.households = 0
        self.households_asked = 0
        self.told: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.first_attempts = 0
        self.first_successes = 0
        self.second_tries = 0
        self.double_clicks = 0
        self.double_click_conflicts = 0
        self.book_again = 0
        self.book_again_wrong = 0
        self.acknowledged = 0
        self.requests = 0
        self.errors_5xx = 0
        self.shed = 0
        self.lost = 0
        self.accepted = 0
        self.unexpected: Counter[str] = Counter()
        self.all_ms = Histogram()
        self.routes_ms: defaultdict[str, Histogram] = defaultdict(Histogram)
        self.wait_ms = Histogram()
        self._all_before = Histogram()
        self._booking_before = Histogram()

    @property
    def in_flight(self) -> int:
        """People being served."""
        return self.begun - self.answered - self.unanswered

    @property
    def failed(self) -> bool:
        """Whether something happened that must not: silence, another answer than the protocol's."""
        return bool(
            self.unanswered or self.unexpected or self.double_click_conflicts or self.book_again_wrong
        )

    def answer(self, route: str, status: int, ms: float) -> None:
        """Count a reply. A 503 is counted among the errors, and once more by itself."""
        self.requests += 1
        self.all_ms.add(ms)
        self.routes_ms[route].add(ms)
        self.errors_5xx += status >= 500
        self.shed += status == 503

    def line(self, seconds: float) -> dict[str, object]:
        """The cumulative counts, and the latencies since the line before."""
        interval = Quantiles.of(self.all_ms.since(self._all_before))
        booking_ms = self.routes_ms[BOOKINGS]
        bookings = Quantiles.of(booking_ms.since(self._booking_before))
        self._all_before, self._booking_before = self.all_ms.copy(), booking_ms.copy()
        return self._counts(seconds) | {"interval_ms": interval, "interval_booking_ms": bookings}

    def total(self, seconds: float) -> dict[str, object]:
        """The last line: the counts, and the latencies of the whole surge."""
        return self._counts(seconds) | {
            "end": True,
            "failed": self.failed,
            "all_ms": Quantiles.of(self.all_ms),
            "routes_ms": {route: Quantiles.of(histogram) for route, histogram in self.routes_ms.items()},
            "wait_ms": Quantiles.of(self.wait_ms),
        }

    def _counts(self, seconds: float) -> dict[str, object]:
        return {
            "seconds": round(seconds, 2),
            "citizens": self.citizens,
            "arrived": self.arrived,
            "waiting": self.arrived - self.begun,
            "in_flight": self.in_flight,
            "answered": self.answered,
            "unanswered": self.unanswered,
            "registered": self.registered,
            "searches": self.searches,
            "booked": self.booked,
            "cancelled": self.cancelled,
            "held": self.held,
            "confirmed": self.confirmed,
            "moved": self.moved,
            "not_moved": self.not_moved,
            "second_doses_cancelled": self.second_doses_cancelled,
            "households": self.households,
            "households_asked": self.households_asked,
            "told": self.told,
            "refused": self.refused,
            "first_attempts": self.first_attempts,
            "first_successes": self.first_successes,
            "second_tries": self.second_tries,
            "double_clicks": self.double_clicks,
            "double_click_conflicts": self.double_click_conflicts,
            "book_again": self.book_again,
            "book_again_wrong": self.book_again_wrong,
            "acknowledged": self.acknowledged,
            "requests": self.requests,
            "errors_5xx": self.errors_5xx,
            "shed": self.shed,
            "lost": self.lost,
            "accepted": self.accepted,
            "unexpected": self.unexpected,
        }
