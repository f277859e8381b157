"""Joining the waitlist as citizens mean it: what they need follows from who they are.

The campaign's rules are asked when somebody joins, so that nobody waits for what they may not have: their
entry names the vaccines that all of them may have on some day that they named. They are asked again when an
offer is accepted.
"""

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import msgspec

from engine.availability.programmes import Programmes
from engine.booking.office import Office
from engine.domain.course import Kind
from engine.rules import eligibility
from engine.rules.intervals import NoIntervalError
from engine.rules.refusal import Basis, Refusal, Rule
from engine.storage.waitlist import Area
from engine.waitlist.entries import Asked, Bar, Entries, Joined, NotJoined
from engine.waitlist.needs import Member
from engine.waitlist.states import Purpose
from engine.wishes.book import Someone
from engine.wishes.seats import ONE_DOSE, PRIMARY, booster_shape, second_shape


class Waiting(msgspec.Struct, frozen=True):
    """What somebody would wait for. ``weekdays``: bit 0 is Monday; ``vaccines`` None is any."""

    people: tuple[Someone, ...]
    kind: Kind
    area: Area
    first_day: date
    last_day: date
    weekdays: int
    vaccines: frozenset[str] | None
    purpose: Purpose


class _May(msgspec.Struct, frozen=True):
    """A vaccine that everybody may have, and from which day on."""

    vaccine: str
    first_day: date


class Waitlist:
    """One process's way into the waitlist."""

    def __init__(
        self, entries: Entries, office: Office, programmes: Programmes, today: Callable[[int], date]
    ) -> None:
        self.entries = entries
        self._office = office
        self._programmes = programmes
        self._today = today

    async def join(self, waiting: Waiting, idempotency_key: str) -> Joined | NotJoined | Refusal:
        """Wait, at the end of the line."""
        near = self._programmes.near(waiting.area.lat, waiting.area.lon, waiting.area.radius_km)
        if not near:
            return NotJoined(Bar.AREA)
        may = self._may(waiting, near[0][0])
        if isinstance(may, Refusal):
            return may
        asked = Asked(
            tuple(Member(one.person, one.facts, one.given) for one in waiting.people),
            waiting.kind,
            self._shape(waiting, may),
            waiting.area,
            waiting.first_day,
            waiting.last_day,
            waiting.weekdays,
            tuple(sorted(one.vaccine for one in may)),
            waiting.purpose,
        )
        return await self.entries.join(asked, idempotency_key)

    def _may(self, waiting: Waiting, location: int) -> list[_May] | Refusal:
        """The vaccines that everybody may have on some of the days; or why there is none."""
        found: list[_May] = []
        refusals: list[Refusal] = []
        for vaccine in self._wanted(waiting):
            first = self._first_day(waiting, vaccine, location)
            if isinstance(first, Refusal):
                refusals.append(first)
            else:
                found.append(_May(vaccine, first))
        if found or not refusals:
            return found or Refusal(Rule.UNKNOWN_VACCINE)
        # The one that is over first says most.
        return min(refusals, key=lambda refusal: refusal.dose_from or date.max)

    def _wanted(self, waiting: Waiting) -> Iterator[str]:
        known, given = self._office.rules.intervals.vaccines, waiting.people[0].given
        if any(one.given is not None and one.given.vaccine not in known for one in waiting.people):
            return
        for vaccine in sorted(known):
            if waiting.vaccines is not None and vaccine not in waiting.vaccines:
                continue
            if waiting.kind is Kind.PRIMARY and given is not None and vaccine != given.vaccine:
                continue
            yield vaccine

    def _first_day(self, waiting: Waiting, vaccine: str, location: int) -> date | Refusal:
        """The first day on which all may have a dose of it, booked today; or why somebody may not in time."""
        area, today = self._office.locations[location].department, self._today(location)
        first = max(waiting.first_day, today)
        for member, one in enumerate(waiting.people):
            campaign = self._office.rules.campaign
            refusal = eligibility.check(
                campaign, one.facts, waiting.kind, vaccine, area, today, first, one.given
            )
            if refusal is None:
                continue
            from_day = refusal.dose_from
            if refusal.basis is not Basis.DOSE or from_day is None or from_day > waiting.last_day:
                return msgspec.structs.replace(refusal, member=member)
            first = from_day
        return first

    def _shape(self, waiting: Waiting, may: list[_May]) -> str:
        rules, given = self._office.rules, waiting.people[0].given
        if waiting.kind is Kind.BOOSTER:
            return booster_shape(min(one.first_day for one in may))
        if given is not None:
            try:
                days_min, _ = rules.intervals.on(given.vaccine, self._office.now().date())
            except NoIntervalError:
                days_min = 0
            return second_shape(given, given.day + timedelta(days=days_min))
        one_dose = all(rules.campaign.one_dose_suffices(one.facts.groups) for one in waiting.people)
        return ONE_DOSE if one_dose else PRIMARY
