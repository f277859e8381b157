"""People who book together: at one location, their first doses at neighbouring times.

Each member's course is checked on its own, by the same rules as anybody's; a refusal says whose it is.
Whether there are seats for all of them is not asked here: Redis takes all or none.
"""

from collections.abc import Sequence
from datetime import date, datetime, timedelta

import msgspec

from engine.domain.course import Kind
from engine.rules import courses
from engine.rules.campaign import Households
from engine.rules.courses import Dose, Person, Rules
from engine.rules.refusal import Refusal, Rule


class Member(msgspec.Struct, frozen=True):
    """One member's course."""

    person: Person
    kind: Kind
    doses: tuple[Dose, ...]


def check(rules: Rules, members: Sequence[Member], now: datetime, today: date) -> Refusal | None:
    """Whether these people may book together. ``today`` is the date at ``now`` at their location."""
    if not 1 <= len(members) <= rules.campaign.households.members_max:
        return Refusal(Rule.HOUSEHOLD_SIZE)
    return (
        _check_members(rules, members, now, today)
        or _check_location(members)
        or _check_span(rules.campaign.households, members)
    )


def _check_members(rules: Rules, members: Sequence[Member], now: datetime, today: date) -> Refusal | None:
    for index, member in enumerate(members):
        refusal = courses.check(rules, member.kind, member.doses, member.person, now, today)
        if refusal is not None:
            return msgspec.structs.replace(refusal, member=index)
    return None


def _check_location(members: Sequence[Member]) -> Refusal | None:
    """Every dose of every member is at the location of the first one."""
    location = members[0].doses[0].session.location
    for index, member in enumerate(members):
        for dose in member.doses:
            if dose.session.location != location:
                return Refusal(Rule.TWO_LOCATIONS, dose.number, member=index)
    return None


def _check_span(households: Households, members: Sequence[Member]) -> Refusal | None:
    """The first doses begin within the span, measured from the earliest of them."""
    starts = [min(dose.starts_at for dose in member.doses) for member in members]
    latest = min(starts) + timedelta(minutes=households.span_minutes)
    for index, start in enumerate(starts):
        if start > latest:
            return Refusal(Rule.NOT_NEIGHBOURING, dose=1, minutes=households.span_minutes, member=index)
    return None
