"""Books the first plan of a preference whose seats are still free, in one request.

The board may be a moment behind, and a rush takes what it shows: up to ``WISH_ATTEMPTS_MAX`` plans are tried,
one after the other. All attempts are one op, named by what was asked and not by the plan, so the same key
gets what the first attempt that succeeded has begun, whatever is free by then. A refused attempt has written
nothing; an attempt whose answer was lost ends the request as unknown, and asking again resolves it.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime

import msgspec

from engine import limits
from engine.availability.plan import Party
from engine.availability.planner import Planner
from engine.availability.preference import Order, Preference, Shape, When
from engine.booking import desk as booking
from engine.booking.desk import Applicant, Desk, Pending
from engine.booking.outcomes import Booked, Reason, Refused
from engine.domain.capacity import Location, Session
from engine.domain.course import Kind, Wish
from engine.domain.person import Facts, Given
from engine.rules import eligibility
from engine.rules.courses import Rules
from engine.rules.intervals import NoIntervalError
from engine.rules.refusal import Refusal, Rule

# What the next plan may still give.
_TRY_NEXT = frozenset({Reason.FULL, Reason.CLOSED})


class Someone(msgspec.Struct, frozen=True):
    """One of the people for whom something is looked for."""

    person: bytes
    facts: Facts
    given: Given | None = None


class Asked(msgspec.Struct, frozen=True):
    """What is asked for. The preference's shape is set here: it follows from the people."""

    people: tuple[Someone, ...]
    kind: Kind
    preference: Preference
    hold_ms: int = 0


class Nothing(msgspec.Struct, frozen=True):
    """Nothing that fits was found; ``tried`` plans were, and were gone."""

    tried: int


class Wishes:
    """One process's. ``now`` gives the aware instant, ``today`` a location's date."""

    def __init__(
        self,
        planner: Planner,
        desk: Desk,
        rules: Rules,
        locations: Mapping[int, Location],
        sessions: Mapping[int, Session],
        now: Callable[[], datetime],
        today: Callable[[int], date],
        chance: Callable[[], float],
    ) -> None:
        self._planner = planner
        self._desk = desk
        self._rules = rules
        self._locations = locations
        self._sessions = sessions
        self._now = now
        self._today = today
        self._chance = chance

    async def book(
        self, asked: Asked, idempotency_key: str, digest: bytes
    ) -> Booked | Refused | Refusal | Pending | Nothing:
        """Begin the courses. ``digest`` names what was asked: the same key and digest get the same answer."""
        before = await self._desk.begun(_order(asked, ()), idempotency_key, digest)
        if before is not None:
            return before
        tried = 0
        for party in self.find(asked, limits.WISH_ATTEMPTS_MAX):
            order = _order(asked, party)
            outcome = await self._desk.book(order, idempotency_key, digest)
            tried += 1
            if isinstance(outcome, Booked):
                # Another copy of this op may have been granted another plan meanwhile: what it began counts.
                return await self._desk.begun(order, idempotency_key, digest) or outcome
            if not _is_worth_another(outcome):
                return outcome
        return Nothing(tried)

    def find(self, asked: Asked, limit: int) -> list[Party]:
        """Up to ``limit`` parties, in the order wished."""
        found: list[Party] = []
        for preference, admits in self._preferences(asked):
            found += self._planner.find_for(
                len(asked.people), preference, limit, self._now(), self._chance, admits
            )
        found.sort(key=self._nearness if asked.preference.order is Order.NEAREST else self._earliness)
        return found[:limit]

    def _preferences(self, asked: Asked) -> Iterator[tuple[Preference, Callable[[str, int, date], bool]]]:
        """What to look for: the shapes that these people's courses may have."""
        replace, preference = msgspec.structs.replace, asked.preference
        given = asked.people[0].given
        if asked.kind is Kind.BOOSTER:
            yield replace(preference, shape=Shape.BOOSTER), self._admits(asked, None)
        elif given is not None:
            yield self._second(preference, given), self._admits(asked, None)
        else:
            yield replace(preference, shape=Shape.PAIR), self._admits(asked, 2)
            yield replace(preference, shape=Shape.SINGLE), self._admits(asked, 1)

    def _second(self, preference: Preference, given: Given) -> Preference:
        """Dose 2 alone, of the vaccine given, from the first day of the interval on."""
        vaccines = frozenset({given.vaccine})
        if preference.vaccines is not None:
            vaccines &= preference.vaccines
        when = preference.dose_2
        try:
            days_min, _ = self._rules.intervals.on(given.vaccine, self._now().date())
        except (NoIntervalError, LookupError):
            vaccines, days_min = frozenset(), 0
        first = date.fromordinal(given.day.toordinal() + days_min)
        when = When(max(when.day_min, first), when.day_max, when.weekdays, when.after, when.before)
        return msgspec.structs.replace(preference, shape=Shape.SECOND, vaccines=vaccines, dose_2=when)

    def _admits(self, asked: Asked, doses: int | None) -> Callable[[str, int, date], bool]:
        """Whether everybody may have a dose; ``doses``: only of vaccines of which they need so many."""

        def admits(vaccine: str, location: int, day: date) -> bool:
            area, today = self._locations[location].department, self._today(location)
            return all(
                (doses is None or self._needed(vaccine, one) == doses)
                and eligibility.check(
                    self._rules.campaign, one.facts, asked.kind, vaccine, area, today, day, one.given
                )
                is None
                for one in asked.people
            )

        return admits

    def _needed(self, vaccine: str, one: Someone) -> int:
        return self._rules.doses_needed(vaccine, one.facts)

    def _earliness(self, party: Party) -> tuple[datetime, float]:
        return self._begins(party), party[0].distance_km

    def _nearness(self, party: Party) -> tuple[float, datetime]:
        return party[0].distance_km, self._begins(party)

    def _begins(self, party: Party) -> datetime:
        first = party[0].choices[0]
        return self._sessions[first.session].slot_starts_at(first.slot)


def _order(asked: Asked, party: Party) -> booking.Order:
    """What to ask the desk for; an empty party only names the people."""
    wishes: list[tuple[Wish, ...]] = [plan.wishes for plan in party] or [()] * len(asked.people)
    applicants = tuple(
        Applicant(one.person, one.facts, own, one.given)
        for one, own in zip(asked.people, wishes, strict=True)
    )
    return booking.Order(applicants, asked.kind, asked.hold_ms)


def _is_worth_another(outcome: Refused | Refusal | Pending) -> bool:
    if isinstance(outcome, Refused):
        return outcome.reason in _TRY_NEXT
    return isinstance(outcome, Refusal) and outcome.rule is Rule.PAST_SLOT
