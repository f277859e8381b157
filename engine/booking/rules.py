"""What a wish must satisfy before Redis hears of it, as far as the desk asks: a pair at one location.

The rules themselves are in ``engine.rules.courses``; who may have which dose is not asked here.
"""

from datetime import date, datetime

from engine.domain.capacity import Session
from engine.rules import courses
from engine.rules.courses import Dose
from engine.rules.intervals import Intervals
from engine.rules.refusal import OF_THE_MOMENT, Rule
from engine.rules.refusal import Refusal as Impossible

__all__ = ["OF_THE_MOMENT", "Impossible", "Rule", "check_days", "check_slots"]


def check_slots(first: Session, slot_1: int, second: Session, slot_2: int) -> Impossible | None:
    """What the sessions themselves exclude, at any time."""
    doses = Dose(1, first, slot_1, ""), Dose(2, second, slot_2, "")
    refusal = courses.check_slots(doses)
    if refusal is not None:
        return refusal
    if first.location != second.location:
        return Impossible(Rule.TWO_LOCATIONS)
    if first.vaccine != second.vaccine:
        return Impossible(Rule.TWO_VACCINES)
    return courses.check_order(doses)


def check_days(
    first: Session, slot_1: int, second: Session, intervals: Intervals, now: datetime, today: date
) -> Impossible | None:
    """What the moment of booking excludes; ``today`` is the location's date at ``now``."""
    if first.vaccine not in intervals.vaccines:
        return Impossible(Rule.UNKNOWN_VACCINE)
    return courses.check_past([Dose(1, first, slot_1, "")], now) or courses.check_between(
        intervals, first.vaccine, first.day, second.day, today
    )
