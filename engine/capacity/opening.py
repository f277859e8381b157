"""Plans the sessions of a campaign: opening hours and weekly allocations in, masks of seats out.

Invariants: one session per location and day with opening hours, from the first opening to the last
closing; a slot that is not wholly inside one opening interval (a break) has no seat; the sessions of any
seven days of a location have its weekly seats between them, unless its lines are at their bound
(``OpeningNotes.capped``). Everything is determined by the arguments: no clock, no chance.

Slot 0 begins at the local opening time; later slots follow in absolute time. Sessions of the first day that
have begun are planned like any other: whether they can still be booked is the caller's business.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from statistics import median
from zoneinfo import ZoneInfo

import msgspec

from engine.capacity.allocations import Allocations
from engine.capacity.register import Hours, Register, Week
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan

DEFAULT_DAY: Hours = ((9 * 60, 13 * 60), (14 * 60, 18 * 60))
DEFAULT_WEEK: Week = (DEFAULT_DAY,) * 5 + ((), ())
"""Hours of a location of which the register knows none: Monday to Friday, 09:00-13:00 and 14:00-18:00."""

DEFAULT_VACCINE = "pfizer"
DEFAULT_WEEKLY_SEATS = 1_000
"""Used only where no location at all has an allocation; else the default is their median."""

REDISTRIBUTORS = frozenset({"2165"})
"""Centres whose allocation is passed on to others: 273,000 doses a week arrive at gid 2165."""

PLANNED_LINES_MAX = 100
"""Lines that a planned session has at most; the bound of any session is in ``engine.limits``."""
DAYS_DEFAULT = 91
_SLOT_MINUTES = (10, 15, 30)
_SLOT_MINUTES_CROWDED = 5


class OpeningNotes(msgspec.Struct, frozen=True):
    """What was assumed: numbers of locations, and the seats of a week of all of them."""

    locations: int
    hours_default: int
    allocation_default: int
    redistributors: int
    default_weekly_seats: int
    never_open: int
    capped: int
    vaccines: dict[str, int]
    weekly_seats: int

    def summary(self) -> list[str]:
        """The notes as sentences, one a line."""
        by_vaccine = ", ".join(f"{name} {count}" for name, count in sorted(self.vaccines.items()))
        return [
            f"{self.locations} locations, {self.weekly_seats} seats a week ({by_vaccine})",
            f"hours unknown, default used: {self.hours_default}; never open: {self.never_open}",
            f"allocation unknown, default of {self.default_weekly_seats} seats a week used: "
            f"{self.allocation_default} (of these left out as redistributors: {self.redistributors})",
            f"fewer seats than allocated, since lines are bounded at {PLANNED_LINES_MAX}: {self.capped}",
        ]


class DayPlan(msgspec.Struct, frozen=True, gc=False):
    """A weekday of a location: its hours, the seats that are its share of the week, and its mask."""

    hours: Hours
    slots: int
    share: int
    mask: bytes


class WeekPlan(msgspec.Struct, frozen=True, gc=False):
    """A location's usual week, Monday to Sunday; ``None`` on days without a session."""

    location: Location
    vaccine: str
    slot_minutes: int
    lines: int
    weekly_seats: int
    days: tuple[DayPlan | None, ...]


def plan_sessions(
    register: Register, allocations: Allocations, first_day: date, days: int = DAYS_DEFAULT
) -> Iterator[SessionPlan]:
    """The sessions of ``days`` days from ``first_day`` (a local date in each zone), by location, then day."""
    weeks, _ = plan_weeks(register, allocations)
    calendar = [first_day + timedelta(days=n) for n in range(days)]
    return (session for week in weeks for session in _sessions(week, calendar))


def opening_notes(register: Register, allocations: Allocations) -> OpeningNotes:
    """What ``plan_sessions`` assumes for the same arguments, for printing."""
    return plan_weeks(register, allocations)[1]


def plan_weeks(register: Register, allocations: Allocations) -> tuple[list[WeekPlan], OpeningNotes]:
    """Every location's usual week, and what was assumed for it."""
    known = {
        location.register_id: allocations.by_register_id[location.register_id]
        for location in register.locations
        if location.register_id in allocations.by_register_id and location.register_id not in REDISTRIBUTORS
    }
    usual = [allocation.weekly_doses for allocation in known.values()]
    default_seats = round(median(usual)) if usual else DEFAULT_WEEKLY_SEATS
    weeks = []
    hours_default = 0
    for location in register.locations:
        week = register.weeks[location.id]
        hours_default += _is_unknown(week)
        allocation = known.get(location.register_id)
        if allocation is None:
            vaccine, wanted = default_vaccine(location.register_id), default_seats
        else:
            vaccine, wanted = allocation.vaccine or DEFAULT_VACCINE, allocation.weekly_doses
        weeks.append(_plan_week(location, _hours_of(week), vaccine, wanted))
    vaccines: dict[str, int] = {}
    for plan in weeks:
        vaccines[plan.vaccine] = vaccines.get(plan.vaccine, 0) + 1
    notes = OpeningNotes(
        locations=len(weeks),
        hours_default=hours_default,
        allocation_default=len(weeks) - len(known),
        redistributors=sum(location.register_id in REDISTRIBUTORS for location in register.locations),
        default_weekly_seats=default_seats,
        never_open=sum(not any(plan.days) for plan in weeks),
        capped=sum(any(plan.days) and _seats_of(plan) < plan.weekly_seats for plan in weeks),
        vaccines=vaccines,
        weekly_seats=sum(map(_seats_of, weeks)),
    )
    return weeks, notes


def default_vaccine(register_id: str) -> str:
    """Vaccine of a location without an allocation, by the last digit of the register's key.

    0, 1, 2 moderna; 3, 4 astrazeneca; else the default. The allocations of August 2021 are pfizer nearly
    without exception; the others are given a share so that every interval in force is exercised.
    """
    digit = int(register_id) % 10
    if digit <= 2:
        return "moderna"
    return "astrazeneca" if digit <= 4 else DEFAULT_VACCINE


def _is_unknown(week: Week) -> bool:
    return all(hours is None for hours in week)


def _hours_of(week: Week) -> list[Hours]:
    """The hours to plan with: a day unknown in a week that is partly known is closed."""
    return [hours or () for hours in (DEFAULT_WEEK if _is_unknown(week) else week)]


def _seats_of(week: WeekPlan) -> int:
    return sum(seats.count_free(day.mask) for day in week.days if day is not None)


def _plan_week(location: Location, hours: list[Hours], vaccine: str, weekly_seats: int) -> WeekPlan:
    """The week with exactly ``weekly_seats`` seats, each day's share in proportion to its slots."""
    slot_minutes, open_slots = _slot_length(hours, weekly_seats)
    shares = _shares(weekly_seats, [len(slots) for slots in open_slots])
    lines = min(PLANNED_LINES_MAX, _lines(shares, open_slots))
    days = tuple(
        _plan_day(day_hours, slots, share, slot_minutes, lines) if slots else None
        for day_hours, slots, share in zip(hours, open_slots, shares, strict=True)
    )
    return WeekPlan(location, vaccine, slot_minutes, lines, weekly_seats, days)


def _slot_length(hours: list[Hours], weekly_seats: int) -> tuple[int, list[list[int]]]:
    """The slot length in minutes, and the open slots of each weekday under it.

    Ten minutes, the time of one injection; longer where that would leave slots without a seat, five where
    it would take more lines than a location may have.
    """
    for slot_minutes in _SLOT_MINUTES:
        open_slots = [_open_slots(day, slot_minutes) for day in hours]
        if weekly_seats >= sum(map(len, open_slots)):
            break
    shares = _shares(weekly_seats, [len(slots) for slots in open_slots])
    if _lines(shares, open_slots) <= PLANNED_LINES_MAX and _same_days(hours, open_slots):
        return slot_minutes, open_slots
    return _SLOT_MINUTES_CROWDED, [_open_slots(day, _SLOT_MINUTES_CROWDED) for day in hours]


def _same_days(hours: list[Hours], open_slots: list[list[int]]) -> bool:
    """Whether every day with opening hours has a slot: intervals may be shorter than one."""
    return all(bool(day) == bool(slots) for day, slots in zip(hours, open_slots, strict=True))


def _open_slots(hours: Hours, slot_minutes: int) -> list[int]:
    """Numbers of the slots, counted from the first opening, that lie wholly in one interval."""
    if not hours:
        return []
    start = hours[0][0]
    return [
        slot
        for opens, closes in hours
        for slot in range(-((start - opens) // slot_minutes), (closes - start) // slot_minutes)
    ]


def _lines(shares: list[int], open_slots: list[list[int]]) -> int:
    """Lines that carry the fullest day's share; at least one."""
    needed = (-(-share // len(slots)) for share, slots in zip(shares, open_slots, strict=True) if slots)
    return max(1, max(needed, default=1))


def _shares(total: int, weights: list[int]) -> list[int]:
    """``total`` split in whole numbers in proportion to ``weights``; all 0 if these are."""
    weight_sum = sum(weights)
    if weight_sum == 0:
        return [0] * len(weights)
    shares = []
    passed = 0
    for weight in weights:
        shares.append((passed + weight) * total // weight_sum - passed * total // weight_sum)
        passed += weight
    return shares


def _plan_day(hours: Hours, open_slots: list[int], share: int, slot_minutes: int, lines: int) -> DayPlan:
    slots = (hours[-1][1] - hours[0][0]) // slot_minutes
    return DayPlan(hours, slots, share, _mask(slots, lines, open_slots, share))


def _mask(slots: int, lines: int, open_slots: list[int], share: int) -> bytes:
    """A mask with ``share`` seats, as evenly over the open slots as whole seats allow."""
    share = min(share, len(open_slots) * lines)
    width = seats.width_of(lines)
    mask = seats.none_free(slots, lines)
    for slot, count in zip(open_slots, _shares(share, [1] * len(open_slots)), strict=True):
        mask[slot * width : (slot + 1) * width] = ((1 << count) - 1).to_bytes(width, "little")
    return bytes(mask)


def _sessions(week: WeekPlan, calendar: list[date]) -> Iterator[SessionPlan]:
    for day in calendar:
        plan = week.days[day.weekday()]
        if plan is None:
            continue
        opens, closes = plan.hours[0][0], plan.hours[-1][1]
        starts_at, elapsed = _opening_of(week.location.zone, day, opens, closes)
        if elapsed != closes - opens:
            plan = _plan_changed_day(week, plan, day)
        if not plan.slots:
            continue  # All of its opening hours are in the hour that summer time takes away.
        yield SessionPlan(
            location=week.location.id,
            vaccine=week.vaccine,
            day=day,
            starts_at=starts_at,
            slot_minutes=week.slot_minutes,
            slots=plan.slots,
            lines=week.lines,
            seats=plan.mask,
        )


@lru_cache(maxsize=65_536)
def _opening_of(zone: str, day: date, opens: int, closes: int) -> tuple[datetime, int]:
    """The instant of opening, and the minutes that really pass from there to closing."""
    starts_at = _instant(zone, day, opens)
    return starts_at, int((_instant(zone, day, closes) - starts_at).total_seconds()) // 60


def _instant(zone: str, day: date, minute: int) -> datetime:
    """The instant of a local time of day, given in minutes after midnight by the clock on the wall.

    A time that comes twice is its first occurrence; one that summer time skips is the end of what it skips,
    so that later times of a day are never earlier instants.
    """
    local = ZoneInfo(zone)
    wall = datetime.combine(day, time(), local) + timedelta(minutes=minute)
    while (instant := wall.astimezone(UTC)).astimezone(local) != wall:
        wall += timedelta(minutes=1)
    return instant


def _plan_changed_day(week: WeekPlan, plan: DayPlan, day: date) -> DayPlan:
    """The day's plan when daylight saving time begins or ends between opening and closing."""
    zone, opens = week.location.zone, plan.hours[0][0]
    starts_at = _instant(zone, day, opens)

    def elapsed(minute: int) -> int:
        return opens + int((_instant(zone, day, minute) - starts_at).total_seconds()) // 60

    hours = tuple((elapsed(begin), elapsed(end)) for begin, end in plan.hours)
    return _plan_day(hours, _open_slots(hours, week.slot_minutes), plan.share, week.slot_minutes, week.lines)
