"""What a wish must satisfy before Redis hears of it. Pure: sessions, intervals and the instant are arguments.

Redis decides what is free; these rules decide what may be asked for. A refusal here has cost no round trip.
Dates are local to the location, instants are aware.
"""

from datetime import date, datetime
from enum import StrEnum

import msgspec

from engine.domain.capacity import Session
from engine.rules.intervals import Intervals, NoIntervalError, UnknownVaccineError


class Rule(StrEnum):
    """The rule that an impossible wish breaks. Stable names: they stand in problems."""

    UNKNOWN_PERSON = "unknown-person"
    UNKNOWN_SESSION = "unknown-session"
    UNKNOWN_SLOT = "unknown-slot"
    TWO_LOCATIONS = "two-locations"
    TWO_VACCINES = "two-vaccines"
    ONE_DOSE = "one-dose"
    PAST_SLOT = "past-slot"
    OUT_OF_ORDER = "out-of-order"
    INTERVAL = "interval"


OF_THE_MOMENT = frozenset({Rule.PAST_SLOT, Rule.INTERVAL, Rule.ONE_DOSE})
"""Rules whose answer changes with time: a wish that breaks one now may have been booked before."""


class Impossible(msgspec.Struct, frozen=True):
    """A wish that cannot be booked, whatever is free. ``days`` are set for the interval only."""

    rule: Rule
    dose: int = 0
    days: int = 0
    days_min: int = 0
    days_max: int = 0


def check_slots(first: Session, slot_1: int, second: Session, slot_2: int) -> Impossible | None:
    """What the sessions themselves exclude, at any time."""
    if not 0 <= slot_1 < first.slots:
        return Impossible(Rule.UNKNOWN_SLOT, dose=1)
    if not 0 <= slot_2 < second.slots:
        return Impossible(Rule.UNKNOWN_SLOT, dose=2)
    if first.location != second.location:
        return Impossible(Rule.TWO_LOCATIONS)
    if first.vaccine != second.vaccine:
        return Impossible(Rule.TWO_VACCINES)
    if second.day <= first.day:
        return Impossible(Rule.OUT_OF_ORDER)
    return None


def check_days(
    first: Session, slot_1: int, second: Session, intervals: Intervals, now: datetime, today: date
) -> Impossible | None:
    """What the moment of booking excludes; ``today`` is the location's date at ``now``."""
    if first.slot_starts_at(slot_1) <= now:
        return Impossible(Rule.PAST_SLOT, dose=1)
    try:
        days_min, days_max = intervals.on(first.vaccine, today)
    except (NoIntervalError, UnknownVaccineError):
        return Impossible(Rule.ONE_DOSE)
    days = (second.day - first.day).days
    if days_min <= days <= days_max:
        return None
    return Impossible(Rule.INTERVAL, dose=2, days=days, days_min=days_min, days_max=days_max)
