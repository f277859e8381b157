"""The rules that a wish can break, and the value that says which one, why, and from when it would not.

Invariants: the strings of ``Rule`` are stable, since they stand in problems and in clients. A refusal is a
value, never an exception; what it leaves empty does not apply to its rule.
"""

from datetime import date
from enum import StrEnum

import msgspec


class Rule(StrEnum):
    """The rule that a wish breaks."""

    # What is asked for does not exist.
    UNKNOWN_PERSON = "unknown-person"
    UNKNOWN_SESSION = "unknown-session"
    UNKNOWN_SLOT = "unknown-slot"
    UNKNOWN_VACCINE = "unknown-vaccine"
    # The doses do not make a course.
    DOSES = "doses"
    TWO_VACCINES = "two-vaccines"
    ONE_DOSE = "one-dose"
    SECOND_DOSE_NEEDED = "second-dose-needed"
    OUT_OF_ORDER = "out-of-order"
    INTERVAL = "interval"
    PAST_SLOT = "past-slot"
    # What was given elsewhere does not go with them.
    GIVEN_MISSING = "given-missing"
    GIVEN_ALREADY = "given-already"
    GIVEN_IN_FUTURE = "given-in-future"
    # The campaign does not admit the person, or not yet.
    VACCINE_NOT_ADMITTED = "vaccine-not-admitted"
    COHORT_NOT_OPEN = "cohort-not-open"
    BOOSTER_NOT_DUE = "booster-not-due"
    # The course cannot be changed.
    NO_SUCH_DOSE = "no-such-dose"
    SLOT_BEGUN = "slot-begun"
    CUT_OFF = "cut-off"
    CHANGES_USED = "changes-used"
    # The household does not go together.
    HOUSEHOLD_SIZE = "household-size"
    HOUSEHOLD_TWICE = "household-twice"
    TWO_LOCATIONS = "two-locations"
    NOT_NEIGHBOURING = "not-neighbouring"


OF_THE_MOMENT = frozenset(
    {
        Rule.PAST_SLOT,
        Rule.INTERVAL,
        Rule.ONE_DOSE,
        Rule.SECOND_DOSE_NEEDED,
        Rule.VACCINE_NOT_ADMITTED,
        Rule.COHORT_NOT_OPEN,
        Rule.BOOSTER_NOT_DUE,
        Rule.SLOT_BEGUN,
        Rule.CUT_OFF,
        Rule.CHANGES_USED,
    }
)
"""Rules whose answer changes with time, with the campaign, or by the very op that is asked for again: a wish
that breaks one now may have been granted before."""


class Basis(StrEnum):
    """What the date in a refusal counts for: the day of booking, or the day of the dose."""

    BOOKING = "booking"
    DOSE = "dose"


class Refusal(msgspec.Struct, frozen=True):
    """A wish that cannot be granted, whatever is free.

    ``dose``: which dose breaks the rule, 0 if not one of them. ``days``, ``days_min``, ``days_max``: the days
    between doses as wished and as allowed (``days_max`` 0: no upper bound). ``from_day``: the first day on
    which it would be allowed, by its ``basis``; ``until_day``: the last one, where there is one; both None if
    it never is. ``dose_from``: the first day of the dose when one books on ``from_day``. ``name``: the
    cohort, product or booster rule of the campaign. ``minutes``: the cut-off, or the span of a household.
    ``member``: whose doses they are, counted from 0, where a household asked.
    """

    rule: Rule
    dose: int = 0
    days: int = 0
    days_min: int = 0
    days_max: int = 0
    from_day: date | None = None
    until_day: date | None = None
    basis: Basis | None = None
    dose_from: date | None = None
    name: str = ""
    minutes: int = 0
    member: int | None = None
