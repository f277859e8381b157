"""What a course may consist of: both doses, one that is enough, the second alone, a booster.

A refusal here has cost no round trip: Redis decides what is free, these rules what may be asked for. Doses
may be at different locations. Invariants: days between doses are counted between the local dates of their
sessions, so neither the hour nor a change of daylight saving time matters; instants are aware; a person for
whom one dose is enough is never made to book two. Every refusal is a value; the first broken rule is named.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime, timedelta

import msgspec

from engine.domain.capacity import Session
from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules import eligibility
from engine.rules.campaign import Campaign
from engine.rules.intervals import Intervals, NoIntervalError
from engine.rules.refusal import Basis, Refusal, Rule

_COURSES = {Kind.PRIMARY: ((1,), (2,), (1, 2)), Kind.BOOSTER: ((1,),)}


class Dose(msgspec.Struct, frozen=True, gc=False):
    """One dose of a course in a slot. ``area`` is the department code of the session's location."""

    number: int
    session: Session
    slot: int
    area: str

    @property
    def starts_at(self) -> datetime:
        """Aware instant at which the slot begins."""
        return self.session.slot_starts_at(self.slot)


class Person(msgspec.Struct, frozen=True):
    """For whom a course is: what the rules know, and the last dose given elsewhere, if there is one."""

    facts: Facts
    given: Given | None = None


class Rules(msgspec.Struct, frozen=True):
    """The campaign with its vaccines and intervals."""

    campaign: Campaign
    intervals: Intervals

    def doses_needed(self, vaccine: str, facts: Facts) -> int:
        """How many doses of the vaccine the person needs. Raises ``UnknownVaccineError``."""
        doses = self.intervals.vaccine(vaccine).doses
        return 1 if self.campaign.one_dose_suffices(facts.groups) else doses


def check(
    rules: Rules,
    kind: Kind,
    doses: Sequence[Dose],
    person: Person,
    now: datetime,
    today: date,
    kept: Collection[int] = (),
) -> Refusal | None:
    """Whether the person may have a course of exactly these doses, and the rule that is broken if not.

    ``today`` is the date at ``now`` where the first of the doses is. ``kept``: numbers of doses that are
    booked already and stay where they are: whether they are past or admitted is asked no more.
    """
    doses = sorted(doses, key=lambda dose: dose.number)
    new = [dose for dose in doses if dose.number not in kept]
    return (
        _check_shape(kind, doses)
        or check_slots(new)
        or _check_given(kind, doses, person.given, today)
        or _check_vaccines(rules.intervals, doses, kind, person.given)
        or check_order(doses)
        or check_past(new, now)
        or _check_count(rules, kind, doses, person.facts)
        or _check_interval(rules.intervals, kind, doses, person.given, today)
        or _check_admitted(rules.campaign, kind, new, person, today)
    )


def check_slots(doses: Sequence[Dose]) -> Refusal | None:
    """Whether the sessions have these slots."""
    for dose in doses:
        if not 0 <= dose.slot < dose.session.slots:
            return Refusal(Rule.UNKNOWN_SLOT, dose.number)
    return None


def check_order(doses: Sequence[Dose]) -> Refusal | None:
    """Whether dose 2 comes after dose 1, by the local dates and in fact (zones may lie a day apart)."""
    if len(doses) == 1:
        return None
    first, second = doses
    later = second.session.day > first.session.day and second.starts_at > first.starts_at
    return None if later else Refusal(Rule.OUT_OF_ORDER)


def check_past(doses: Sequence[Dose], now: datetime) -> Refusal | None:
    """Whether none of the slots has begun."""
    for dose in doses:
        if dose.starts_at <= now:
            return Refusal(Rule.PAST_SLOT, dose.number)
    return None


def check_between(
    intervals: Intervals, vaccine: str, first_day: date, second_day: date, booking_day: date
) -> Refusal | None:
    """Whether dose 2 on ``second_day`` lies in the interval in force; else the days on which it would."""
    try:
        days_min, days_max = intervals.on(vaccine, booking_day)
    except NoIntervalError:
        return Refusal(Rule.ONE_DOSE)
    days = (second_day - first_day).days
    if days_min <= days <= days_max:
        return None
    return Refusal(
        Rule.INTERVAL,
        dose=2,
        days=days,
        days_min=days_min,
        days_max=days_max,
        from_day=first_day + timedelta(days=days_min),
        until_day=first_day + timedelta(days=days_max),
        basis=Basis.DOSE,
        dose_from=first_day + timedelta(days=days_min),
    )


def _check_shape(kind: Kind, doses: Sequence[Dose]) -> Refusal | None:
    numbers = tuple(dose.number for dose in doses)
    return None if numbers in _COURSES[kind] else Refusal(Rule.DOSES)


def _check_given(kind: Kind, doses: Sequence[Dose], given: Given | None, today: date) -> Refusal | None:
    """A second dose alone and a booster follow a dose given elsewhere; a first dose does not."""
    follows = kind is Kind.BOOSTER or doses[0].number == 2
    if given is None:
        return Refusal(Rule.GIVEN_MISSING) if follows else None
    if not follows:
        return Refusal(Rule.GIVEN_ALREADY, dose=1)
    return Refusal(Rule.GIVEN_IN_FUTURE) if given.day > today else None


def _check_vaccines(
    intervals: Intervals, doses: Sequence[Dose], kind: Kind, given: Given | None
) -> Refusal | None:
    for dose in doses:
        if dose.session.vaccine not in intervals.vaccines:
            return Refusal(Rule.UNKNOWN_VACCINE, dose.number)
    if given is not None and given.vaccine not in intervals.vaccines:
        return Refusal(Rule.UNKNOWN_VACCINE)
    vaccines = {dose.session.vaccine for dose in doses}
    if kind is Kind.PRIMARY and given is not None:
        vaccines.add(given.vaccine)
    return Refusal(Rule.TWO_VACCINES) if len(vaccines) > 1 else None


def _check_count(rules: Rules, kind: Kind, doses: Sequence[Dose], facts: Facts) -> Refusal | None:
    """Enough doses for this person and vaccine, and not more than the vaccine has."""
    if kind is Kind.BOOSTER:
        return None
    vaccine = doses[0].session.vaccine
    last = doses[-1].number
    if last > rules.intervals.vaccine(vaccine).doses:
        return Refusal(Rule.ONE_DOSE)
    return Refusal(Rule.SECOND_DOSE_NEEDED, dose=2) if last < rules.doses_needed(vaccine, facts) else None


def _check_interval(
    intervals: Intervals, kind: Kind, doses: Sequence[Dose], given: Given | None, today: date
) -> Refusal | None:
    if kind is Kind.BOOSTER or doses[-1].number == 1:
        return None
    second = doses[-1].session
    if given is None:
        return check_between(intervals, second.vaccine, doses[0].session.day, second.day, today)
    refusal = check_between(intervals, second.vaccine, given.day, second.day, today)
    # Who is late for a second dose still needs it: the upper bound is for what can still be chosen.
    late = refusal is not None and refusal.rule is Rule.INTERVAL and refusal.days > refusal.days_max
    return None if late else refusal


def _check_admitted(
    campaign: Campaign, kind: Kind, doses: Sequence[Dose], person: Person, today: date
) -> Refusal | None:
    """Whether the campaign admits the person to each dose on its own day, in its own area."""
    for dose in doses:
        session = dose.session
        refusal = eligibility.check(
            campaign, person.facts, kind, session.vaccine, dose.area, today, session.day, person.given
        )
        if refusal is not None:
            return msgspec.structs.replace(refusal, dose=dose.number)
    return None
