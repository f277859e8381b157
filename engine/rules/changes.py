"""Whether a course that is booked may be changed now, and what a change takes with it.

A dose can be moved or cancelled until its cut-off, by its own slot's time; once its slot has begun, neither.
Dose 2 never stays without dose 1: cancelling dose 1 gives both back, cancelling dose 2 keeps dose 1. The
number of changes is limited, but giving up the whole course is always possible and does not count. Refusals
are values; that whoever asks may change this course has been checked before.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta
from enum import StrEnum

from engine.domain.course import Kind
from engine.rules import courses
from engine.rules.campaign import Campaign
from engine.rules.courses import Dose, Person, Rules
from engine.rules.refusal import Refusal, Rule


class Act(StrEnum):
    """What is to be done with doses of a course."""

    MOVE = "move"
    CANCEL = "cancel"


def check(
    campaign: Campaign,
    act: Act,
    numbers: Collection[int],
    current: Sequence[Dose],
    changed: int,
    now: datetime,
) -> Refusal | None:
    """Whether the doses ``numbers`` of the course ``current`` may be moved or cancelled now.

    ``changed`` counts the changes that the course has gone through.
    """
    missing = [number for number in sorted(numbers) if number not in {dose.number for dose in current}]
    if missing or not numbers:
        return Refusal(Rule.NO_SUCH_DOSE, dose=missing[0] if missing else 0)
    touched = _touched(act, numbers, current)
    ends_it = act is Act.CANCEL and len(touched) == len(current)
    return _check_times(campaign, act, touched, now) or (
        None if ends_it or changed < campaign.changes.changes_max else Refusal(Rule.CHANGES_USED)
    )


def check_move(
    rules: Rules,
    kind: Kind,
    current: Sequence[Dose],
    moved: Sequence[Dose],
    person: Person,
    changed: int,
    now: datetime,
    today: date,
) -> Refusal | None:
    """Whether doses of the course ``current`` may go to where ``moved`` says, as a course of this kind.

    A dose that the course does not have (it was given up) is added, which counts as a change too.
    Where dose 1 moves alone and dose 2 no longer fits, the refusal is ``INTERVAL`` for dose 2, with the days
    from ``from_day`` to ``until_day`` on which it would fit. ``today``: as in ``courses.check``.
    """
    numbers = {dose.number for dose in moved}
    going = numbers & {dose.number for dose in current}
    refusal = check(rules.campaign, Act.MOVE, going, current, changed, now) if going else None
    if refusal is not None:
        return refusal
    if changed >= rules.campaign.changes.changes_max:
        return Refusal(Rule.CHANGES_USED)
    kept = [dose for dose in current if dose.number not in numbers]
    kept_numbers = {dose.number for dose in kept}
    return courses.check(rules, kind, [*kept, *moved], person, now, today, kept=kept_numbers)


def released(numbers: Collection[int], current: Sequence[Dose]) -> tuple[int, ...]:
    """The doses that go when these are cancelled: with dose 1 every dose, else these alone."""
    return tuple(sorted(dose.number for dose in current if 1 in numbers or dose.number in numbers))


def _touched(act: Act, numbers: Collection[int], current: Sequence[Dose]) -> list[Dose]:
    going = released(numbers, current) if act is Act.CANCEL else numbers
    return sorted((dose for dose in current if dose.number in going), key=lambda dose: dose.number)


def _check_times(campaign: Campaign, act: Act, touched: Sequence[Dose], now: datetime) -> Refusal | None:
    changes = campaign.changes
    minutes = changes.move_cutoff_minutes if act is Act.MOVE else changes.cancel_cutoff_minutes
    for dose in touched:
        if dose.starts_at <= now:
            return Refusal(Rule.SLOT_BEGUN, dose.number)
        if dose.starts_at - timedelta(minutes=minutes) < now:
            return Refusal(Rule.CUT_OFF, dose.number, minutes=minutes)
    return None
