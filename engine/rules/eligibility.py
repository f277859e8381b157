"""Whether the campaign admits a person to a dose, and if not, from which day it would.

A dose is admitted when a product rule, a cohort and, for a booster, a booster rule all are in force on the
day of booking and fit the person on the day of the dose. Each rule in force is a **way**: a period of days
of the dose. A refusal names the first kind of rule that has no way (vaccine, cohort, booster), and the way
through all of them that leads to the earliest dose, booked as early as that is possible.

Invariants: ``check`` on the named day (a dose not before it, see ``Refusal.dose_from``) grants; no earlier
dose can be had by booking later. Never raises for a person or a day; the campaign has been checked when it
was loaded.
"""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import lru_cache
from itertools import product as combinations
from typing import NamedTuple

import msgspec

from engine.domain.course import Kind
from engine.domain.person import Facts, Given
from engine.rules.campaign import KIND_NAMES, Booster, Campaign, Cohort, Product
from engine.rules.refusal import Basis, Refusal, Rule


class _Case(NamedTuple):
    """One person who asks for one dose."""

    campaign: Campaign
    facts: Facts
    kind: Kind
    vaccine: str
    area: str
    given: Given | None


class _Way(NamedTuple):
    """A rule in force on some day of booking, and the days of the dose that it admits."""

    name: str
    first: date
    last: date


class _Opening(NamedTuple):
    """A dose that would be admitted: its day, the day of booking, the rules by name as in ``_GATES``."""

    dose_day: date
    booking_day: date
    names: tuple[str, ...]


# Vaccines × areas × days of booking that a process meets, and an age that nobody reaches.
_OPEN_AGES_KEPT = 4_096
_AGE_MAX = 999
_ANY_DAY = _Way("", date.min, date.max)


def check(
    campaign: Campaign,
    facts: Facts,
    kind: Kind,
    vaccine: str,
    area: str,
    booking_day: date,
    dose_day: date,
    given: Given | None = None,
) -> Refusal | None:
    """Whether a dose of ``vaccine`` on ``dose_day``, booked on ``booking_day``, is refused, and why.

    ``area`` is the department code of the location, ``given`` the last dose, which a booster needs. Both
    days are local dates of the location.
    """
    if kind is Kind.PRIMARY and _is_of_open_age(campaign, facts.age_on(dose_day), vaccine, area, booking_day):
        return None
    if kind is Kind.BOOSTER and given is None:
        return Refusal(Rule.GIVEN_MISSING)
    case = _Case(campaign, facts, kind, vaccine, area, given)
    gate = _closed_gate(case, booking_day, dose_day)
    if gate is None:
        return None
    refusal = _refusal(case, gate, booking_day, _first_opening(case, booking_day, dose_day))
    return _with_delay(case, refusal, booking_day, dose_day) if kind is Kind.BOOSTER else refusal


def _is_of_open_age(campaign: Campaign, age: int, vaccine: str, area: str, booking_day: date) -> bool:
    """Whether anybody of this age is admitted, whatever they have declared: most people, at least cost."""
    return any(first <= age <= last for first, last in _open_ages(campaign, vaccine, area, booking_day))


@lru_cache(_OPEN_AGES_KEPT)
def _open_ages(campaign: Campaign, vaccine: str, area: str, booking_day: date) -> tuple[tuple[int, int], ...]:
    """The ages on the day of a primary dose that are enough by themselves on this day of booking."""
    case = _Case(campaign, Facts(date.min), Kind.PRIMARY, vaccine, area, None)
    rules = [rule for rule in campaign.products if _is_for(rule, case) and rule.since <= booking_day]
    if not rules:
        return ()
    product = max(rules, key=lambda rule: rule.since)
    return tuple(
        (max(product.age_min, cohort.age_min), min(_oldest(product.age_max), _oldest(cohort.age_max)))
        for cohort in campaign.cohorts
        if cohort.since <= booking_day <= (cohort.until or date.max) and _admits(cohort, case)
    )


def _oldest(age_max: int | None) -> int:
    return _AGE_MAX if age_max is None else age_max


def _closed_gate(case: _Case, booking_day: date, dose_day: date) -> int | None:
    """The first gate through which no way leads to that day."""
    for number, (_, ways) in enumerate(_GATES):
        if not any(way.first <= dose_day <= way.last for way in ways(case, booking_day)):
            return number
    return None


def _first_opening(case: _Case, booking_day: date, dose_day: date) -> _Opening | None:
    """The earliest dose from ``dose_day`` on, by booking on ``booking_day`` or on a later day.

    What is in force changes on the days on which a rule begins, so no other days of booking are tried.
    """
    campaign = case.campaign
    rules: tuple[Cohort | Product | Booster, ...] = (
        *campaign.cohorts,
        *campaign.products,
        *campaign.boosters,
    )
    days = [booking_day, *sorted({rule.since for rule in rules if rule.since > booking_day})]
    openings = (opening for day in days for opening in _openings_on(case, day, dose_day))
    return min(openings, default=None)


def _openings_on(case: _Case, booking_day: date, dose_day: date) -> Iterator[_Opening]:
    for ways in combinations(*(ways_of(case, booking_day) for _, ways_of in _GATES)):
        first = max(dose_day, booking_day, *(way.first for way in ways))
        if first <= min(way.last for way in ways):
            yield _Opening(first, booking_day, tuple(way.name for way in ways))


def _refusal(case: _Case, gate: int, booking_day: date, opening: _Opening | None) -> Refusal:
    rule, ways_of = _GATES[gate]
    if opening is None:
        return Refusal(rule, name=next((way.name for way in ways_of(case, booking_day)), ""))
    booked_later = opening.booking_day > booking_day
    return Refusal(
        rule,
        name=opening.names[gate],
        from_day=opening.booking_day if booked_later else opening.dose_day,
        basis=Basis.BOOKING if booked_later else Basis.DOSE,
        dose_from=opening.dose_day,
    )


def _products(case: _Case, booking_day: date) -> list[_Way]:
    """The vaccine's rule that began last; the ages count for nothing where a declared group lifts them."""
    rules = [rule for rule in case.campaign.products if _is_for(rule, case) and rule.since <= booking_day]
    if not rules:
        return []
    rule = max(rules, key=lambda rule: rule.since)
    if _has_one_of(case, rule.lifted_by):
        return [_Way(rule.name, date.min, date.max)]
    return [_of_ages(case.facts, rule.name, rule.age_min, rule.age_max)]


def _is_for(rule: Product, case: _Case) -> bool:
    return rule.vaccine == case.vaccine and KIND_NAMES[case.kind] in rule.kinds


def _cohorts(case: _Case, booking_day: date) -> list[_Way]:
    return [
        _of_ages(case.facts, cohort.name, cohort.age_min, cohort.age_max)
        for cohort in case.campaign.cohorts
        if cohort.since <= booking_day <= (cohort.until or date.max) and _admits(cohort, case)
    ]


def _admits(cohort: Cohort, case: _Case) -> bool:
    """Whether the cohort is for this case, ages apart."""
    return (
        KIND_NAMES[case.kind] in cohort.kinds
        and (not cohort.areas or case.area in cohort.areas)
        and (not cohort.groups or _has_one_of(case, cohort.groups))
        and (not cohort.vaccines or case.vaccine in cohort.vaccines)
    )


def _boosters(case: _Case, booking_day: date) -> list[_Way]:
    """After the last dose, and not before the age of the rule; any day where no booster is asked for."""
    if case.given is None or case.kind is not Kind.BOOSTER:
        return [_ANY_DAY]
    last = case.given.day
    return [
        _Way(
            rule.name,
            max(last + timedelta(days=rule.days_min), case.facts.day_of_age(rule.age_min)),
            date.max,
        )
        for rule in case.campaign.boosters
        if rule.since <= booking_day and _fits(rule, case)
    ]


def _fits(rule: Booster, case: _Case) -> bool:
    """Whether the booster rule is for this case, age and delay apart."""
    last_vaccine = case.given.vaccine if case.given else ""
    return (not rule.groups or _has_one_of(case, rule.groups)) and (
        not rule.last_vaccines or last_vaccine in rule.last_vaccines
    )


def _has_one_of(case: _Case, groups: tuple[str, ...]) -> bool:
    return any(group in groups for group in case.facts.groups)


def _of_ages(facts: Facts, name: str, age_min: int, age_max: int | None) -> _Way:
    last = date.max if age_max is None else facts.day_of_age(age_max + 1) - timedelta(days=1)
    return _Way(name, facts.day_of_age(age_min), last)


def _with_delay(case: _Case, refusal: Refusal, booking_day: date, dose_day: date) -> Refusal:
    """The refusal of a booster with the days that passed, and the fewest that its rules ask for now."""
    if refusal.rule is not Rule.BOOSTER_NOT_DUE or case.given is None:
        return refusal
    delays = [
        rule.days_min
        for rule in case.campaign.boosters
        if rule.since <= booking_day and _fits(rule, case) and case.facts.day_of_age(rule.age_min) <= dose_day
    ]
    days = (dose_day - case.given.day).days
    return msgspec.structs.replace(refusal, days=days, days_min=min(delays, default=0))


_Ways = Callable[[_Case, date], list[_Way]]
_GATES: tuple[tuple[Rule, _Ways], ...] = (
    (Rule.VACCINE_NOT_ADMITTED, _products),
    (Rule.COHORT_NOT_OPEN, _cohorts),
    (Rule.BOOSTER_NOT_DUE, _boosters),
)
