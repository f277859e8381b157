"""Leaves so many seats free that exactly a given number of people can book both doses.

How it is exact: at each location that has any, ``k`` seats are free on early days and ``k`` on late days,
and the days are chosen (``pair_days``) so that every early day with every late day is a valid interval
while no two early and no two late days are. Whoever takes a pair takes one of each, so the ``k``-th pair is
as bookable as the first, whatever was booked before it, and there is no ``k + 1``-th.

Invariants: the sessions that come out are those that went in, in their order; a seat is free only if it was
before; the same arguments give the same seats. If the sessions cannot carry the pairs asked for,
``NotEnoughSeatsError`` is raised before the first session is given back.
"""

from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from random import Random

import msgspec

from engine.domain import seats
from engine.domain.capacity import SessionPlan
from engine.rules.intervals import Intervals

ONE_OPEN_IN = 5
"""78 to 81 % of the centres were full on 2021-03-26: one location in five has seats left."""

_UNEVENNESS = 1.2
"""Sigma of the log-normal factor on each location's allocation: many have a handful, few have hundreds."""


class NotEnoughSeatsError(ValueError):
    """More pairs were asked for than the sessions have seats for."""


class PairDays(msgspec.Struct, frozen=True, gc=False):
    """Day numbers (0 is the first day of the sessions), both ends included."""

    dose_1_first: int
    dose_1_last: int
    dose_2_first: int
    dose_2_last: int


class _Stock:
    """The sessions of one location and vaccine that can carry first or second doses."""

    __slots__ = ("early", "early_seats", "late", "late_seats")

    def __init__(self) -> None:
        self.early: list[int] = []
        self.late: list[int] = []
        self.early_seats = 0
        self.late_seats = 0

    @property
    def pairs(self) -> int:
        return min(self.early_seats, self.late_seats)


Place = tuple[int, str]
"""A location and one of its vaccines: both doses are of the same."""


def pair_days(days_min: int, days_max: int) -> PairDays:
    """The days to use for an interval: any early with any late is inside it, no other pair is.

    Day 0 is not used: part of it is past. 21-49 gives days 1-14 with 35-49, 63-84 gives 1-10 with 73-84.
    """
    if not 1 <= days_min <= days_max:
        raise ValueError(f"an interval of {days_min} to {days_max} days is none")
    early = min(max(1, (days_max - days_min) // 2), days_min)
    late_first = early + days_min
    late_last = min(max(late_first, days_max), late_first + days_min - 1)
    return PairDays(1, early, late_first, late_last)


def with_scarcity(
    plans: Iterable[SessionPlan], free_pairs: int, intervals: Intervals, seed: int
) -> Iterator[SessionPlan]:
    """The sessions with just so many seats free that exactly ``free_pairs`` courses can be booked.

    The interval is the one in force on the first day of the sessions. Vaccines of a single dose get no seat.
    """
    if free_pairs < 0:
        raise ValueError(f"free_pairs is {free_pairs}: it cannot be negative")
    sessions = list(plans)
    random = Random(seed)  # noqa: S311  (a draw that can be repeated, no secret)
    stocks = _stocks(sessions, intervals)
    quotas = _draw_quotas({place: stock.pairs for place, stock in stocks.items()}, free_pairs, random)
    masks: dict[int, bytes] = {}
    for place, quota in quotas.items():
        stock = stocks[place]
        masks.update(_choose_seats(sessions, stock.early, quota, random))
        masks.update(_choose_seats(sessions, stock.late, quota, random))
    return (
        msgspec.structs.replace(session, seats=masks.get(number) or bytes(len(session.seats)))
        for number, session in enumerate(sessions)
    )


def _stocks(sessions: list[SessionPlan], intervals: Intervals) -> dict[Place, _Stock]:
    if not sessions:
        return {}
    first_day = min(session.day for session in sessions)
    days_of = {
        vaccine: _days_of(vaccine, intervals, first_day)
        for vaccine in sorted({session.vaccine for session in sessions})
    }
    stocks: dict[Place, _Stock] = {}
    for number, session in enumerate(sessions):
        days = days_of[session.vaccine]
        if days is None:
            continue
        day = (session.day - first_day) // timedelta(days=1)
        stock = stocks.setdefault((session.location, session.vaccine), _Stock())
        if days.dose_1_first <= day <= days.dose_1_last:
            stock.early.append(number)
            stock.early_seats += seats.count_free(session.seats)
        elif days.dose_2_first <= day <= days.dose_2_last:
            stock.late.append(number)
            stock.late_seats += seats.count_free(session.seats)
    return stocks


def _days_of(vaccine: str, intervals: Intervals, first_day: date) -> PairDays | None:
    if intervals.vaccine(vaccine).doses < 2:
        return None
    return pair_days(*intervals.on(vaccine, first_day))


def _draw_quotas(room: dict[Place, int], free_pairs: int, random: Random) -> dict[Place, int]:
    """How many pairs each place gets: ``free_pairs`` in all, none more than its ``room``."""
    if free_pairs > sum(room.values()):
        raise NotEnoughSeatsError(
            f"{free_pairs} free pairs were asked for; the sessions can carry {sum(room.values())} "
            f"at {sum(pairs > 0 for pairs in room.values())} locations"
        )
    places = _draw_places(room, free_pairs, random)
    weights = {place: room[place] * random.lognormvariate(0, _UNEVENNESS) for place in places}
    quotas = dict.fromkeys(places, 1)
    _share_out(quotas, room, weights, free_pairs - len(places))
    return quotas


def _draw_places(room: dict[Place, int], free_pairs: int, random: Random) -> list[Place]:
    """The places that have seats left: one of each five alike in size, more if these cannot carry all."""
    by_size = sorted((place for place in room if room[place] > 0), key=lambda place: (-room[place], place))
    drawn: list[Place] = []
    others: list[Place] = []
    for start in range(0, len(by_size), ONE_OPEN_IN):
        alike = by_size[start : start + ONE_OPEN_IN]
        drawn.append(alike.pop(random.randrange(len(alike))))
        others += alike
    random.shuffle(drawn)
    random.shuffle(others)
    carried = sum(room[place] for place in drawn)
    while carried < free_pairs:
        drawn.append(others.pop())
        carried += room[drawn[-1]]
    return drawn[:free_pairs]


def _share_out(
    quotas: dict[Place, int], room: dict[Place, int], weights: dict[Place, float], rest: int
) -> None:
    """Add ``rest`` pairs to the quotas in proportion to the weights, none above its room, in place."""
    while rest > 0:
        open_places = [place for place in quotas if quotas[place] < room[place]]
        weight_sum = sum(weights[place] for place in open_places)
        before = rest
        for place in open_places:
            more = min(int(before * weights[place] / weight_sum), room[place] - quotas[place], rest)
            quotas[place] += more
            rest -= more
        if rest == before or rest < len(open_places):
            rest = _give_singly(quotas, room, open_places, rest)


def _give_singly(quotas: dict[Place, int], room: dict[Place, int], places: list[Place], rest: int) -> int:
    """Give one pair more to each place that has room until none is left; returns what is left."""
    for place in places:
        if rest == 0:
            break
        if quotas[place] < room[place]:
            quotas[place] += 1
            rest -= 1
    return rest


def _choose_seats(
    sessions: list[SessionPlan], numbers: list[int], count: int, random: Random
) -> Iterator[tuple[int, bytes]]:
    """Masks of the sessions with ``count`` of their free seats, evenly spread from a random start.

    Bits are taken in the order of the mask, which is that of the slots, so slots need not be told apart.
    """
    free = [(number, bit) for number in numbers for bit in _free_bits(sessions[number].seats)]
    start = random.randrange(len(free))
    chosen: dict[int, int] = {}
    for n in range(count):
        number, bit = free[(n * len(free) + start) // count]
        chosen[number] = chosen.get(number, 0) | 1 << bit
    for number, bits in chosen.items():
        yield number, bits.to_bytes(len(sessions[number].seats), "little")


def _free_bits(mask: bytes) -> list[int]:
    digits = bin(int.from_bytes(mask, "little"))[:1:-1]
    return [bit for bit, digit in enumerate(digits) if digit == "1"]
