"""What fits: pure checks of plans, deadlines and the front of a line."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta

from engine import limits
from engine.domain.capacity import Session
from engine.storage.waitlist import InLine
from engine.waitlist.needs import Freed, Plan


def is_for(plan: Plan, freed: Freed, size: int, sessions: Mapping[int, Session]) -> bool:
    """Whether a plan is for so many people, at one known location, with one of them in the freed slot."""
    wishes = [wish for member in plan for wish in member]
    if len(plan) != size or not all(plan) or not all(wish.session in sessions for wish in wishes):
        return False
    if len({sessions[wish.session].location for wish in wishes}) != 1:
        return False
    return any((wish.session, wish.slot) == (freed.session, freed.slot) for wish in wishes)


def first_day(plan: Plan, sessions: Mapping[int, Session]) -> date:
    """The local day of the first dose: the day that an entry chose."""
    return min(sessions[wish.session].day for member in plan for wish in member)


def deadline(
    plan: Plan, sessions: Mapping[int, Session], now: datetime, offer_s: float = limits.OFFER_S_MAX
) -> datetime | None:
    """Until when the plan may be offered from now; None where too little time is left before it begins."""
    begins = min(sessions[wish.session].slot_starts_at(wish.slot) for member in plan for wish in member)
    latest = begins - timedelta(seconds=limits.OFFER_BEFORE_SLOT_S)
    end = min(latest, now + timedelta(seconds=offer_s))
    return None if is_too_late(end, now) else end


def is_too_late(end: datetime, now: datetime) -> bool:
    """Whether nobody should be told any more of an offer that ends then."""
    return end - now < timedelta(seconds=limits.OFFER_S_MIN)


def slots_of(plan: Plan) -> list[Freed]:
    """The slots of a plan, each once."""
    return sorted(
        {Freed(wish.session, wish.slot) for member in plan for wish in member},
        key=lambda freed: (freed.session, freed.slot),
    )


def front(line: Sequence[InLine]) -> list[InLine]:
    """Those at the front who want the same as the first.

    The first who wants something else, and could have it, ends the front: nobody behind is offered the seats
    before them.
    """
    same: list[InLine] = []
    for entry in line:
        if entry.form != line[0].form:
            break
        same.append(entry)
    return same


def are_among(people: Iterable[bytes], some: set[bytes]) -> bool:
    """Whether one of the people is among them."""
    return not some.isdisjoint(people)
