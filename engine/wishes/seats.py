"""The booking desk and the search as the waitlist uses them (``engine/waitlist/needs.py``).

An offer's hold is a course of ``Kind.OFFER`` whose person is the offer key. A key holds once, so its course
is generation 1, and its guard lives where the seats do: one script reaches both.
"""

import struct
from collections.abc import Callable, Sequence
from datetime import date, datetime

from engine.availability.board import Board
from engine.availability.planner import Planner
from engine.availability.preference import Preference, Shape, When
from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.desk import Applicant, Desk, Order, Pending
from engine.booking.office import Office, op_of
from engine.booking.outcomes import Booked, InDoubt, Reason, Refused
from engine.booking.read import find_live
from engine.booking.resolve import bury
from engine.domain import seats
from engine.domain.course import CourseId, Kind, Wish
from engine.domain.person import Given
from engine.errors import OutcomeUnknown
from engine.rules.refusal import Refusal
from engine.waitlist import needs
from engine.waitlist.needs import HasCourse, HoldGone, Impossible, NotSetAside, Plan, SetAside

_WISHED = struct.Struct("<BIH")
_NEAR_KM = 0.1
# Shapes of entries: what their people need.
PRIMARY, ONE_DOSE = "primary", "one-dose"


class DeskSeats:
    """One process's seats for offers."""

    def __init__(self, office: Office, desk: Desk) -> None:
        self._office = office
        self._desk = desk

    async def set_aside(
        self, offer_key: bytes, kind: int, plan: Plan, hold_ms: int, key: str
    ) -> SetAside | NotSetAside:
        """Hold every seat of the plan, or none."""
        office = self._office
        location = office.sessions[plan[0][0].session].location
        office.pressure.admit(office.keyspace.of_location(location), holds=True)
        wished = [wish for member in plan for wish in member]
        # Each seat is a dose of its own: the course of an offer is nobody's.
        wishes = tuple(Wish(number, w.session, w.slot) for number, w in enumerate(wished, start=1))
        packed = b"".join(_WISHED.pack(w.dose, w.session, w.slot) for w in wishes)
        op = op_of(offer_key, key, b"offer", packed)
        request = Request(op, location, (Seeker(offer_key, Kind.OFFER, wishes),), hold_ms)
        outcome = await office.drive(book(request, office.placement))
        if isinstance(outcome, InDoubt):
            raise OutcomeUnknown("the hold of an offer is in doubt")
        # One that has ended since is told by its until_ms.
        return SetAside() if isinstance(outcome, Booked) and outcome.course.until_ms else NotSetAside()

    async def accept(
        self, members: Sequence[needs.Member], kind: int, plan: Plan, offer_key: bytes, key: str
    ) -> needs.AcceptAnswer:
        """Book each member's wishes in place of the offer's hold."""
        applicants = tuple(
            Applicant(member.person, member.facts, wishes, member.given)
            for member, wishes in zip(members, plan, strict=True)
        )
        order = Order(applicants, Kind(kind), instead=_course(offer_key))
        outcome = await self._desk.book(order, key)
        if isinstance(outcome, Booked):
            return needs.Booked(outcome.courses)
        if isinstance(outcome, Pending):
            raise OutcomeUnknown("the acceptance of an offer is in doubt")
        if isinstance(outcome, Refusal):
            return Impossible()
        return _refused(outcome)

    async def give_back(self, offer_key: bytes, location: int, key: str) -> None:
        """End the hold, or bury it, so that a copy that is still on its way holds nothing."""
        office, course = self._office, _course(offer_key)
        if await office.drive(bury(course, location, office.placement)):
            op = op_of(offer_key, key, b"give-back", b"")
            await office.drive(cancel(course, location, op, office.placement))

    async def has_live_course(self, person: bytes, kind: int) -> bool:
        """Whether the person holds or has booked a course of this kind."""
        return await self._office.drive(find_live(person, kind, self._office.placement)) is not None


class PlansAround:
    """The search for a seat that came free: what people of a shape could book with it."""

    def __init__(
        self,
        office: Office,
        planner: Planner,
        board: Board,
        now: Callable[[], datetime],
        chance: Callable[[], float],
    ) -> None:
        self._office = office
        self._planner = planner
        self._board = board
        self._now = now
        self._chance = chance

    def __call__(self, session: int, slot: int, kind: int, shape: str, n: int) -> Plan | None:
        """What ``n`` people could book around this slot now, from memory."""
        known = self._office.sessions.get(session)
        if known is None:
            return None
        place = self._office.locations[known.location]
        preference = self._preference(known.vaccine, kind, shape, place.lat, place.lon)
        party = preference and self._planner.around(
            session, slot, preference, self._now(), self._chance, people=n
        )
        return tuple(plan.wishes for plan in party) if party else None

    def free_slots(self, session: int) -> Sequence[int]:
        """The slots with a free seat, ascending."""
        stock = self._board.stock(session)
        return [] if stock is None or not stock.free else list(seats.free_slots(stock.mask, stock.width))

    def _preference(self, vaccine: str, kind: int, shape: str, lat: float, lon: float) -> Preference | None:
        """What an entry of this shape may have of this vaccine; None for nothing."""
        if kind == Kind.BOOSTER:
            when = When(day_min=date.fromisoformat(shape.partition(":")[2]))
            return Preference(lat, lon, _NEAR_KM, Shape.BOOSTER, dose_1=when)
        if shape == ONE_DOSE:
            return Preference(lat, lon, _NEAR_KM, Shape.SINGLE)
        if shape == PRIMARY:
            doses = self._office.rules.intervals.vaccine(vaccine).doses
            return Preference(lat, lon, _NEAR_KM, Shape.PAIR if doses == 2 else Shape.SINGLE)
        _, given, first_day = shape.split(":")
        when = When(day_min=date.fromisoformat(first_day))
        return Preference(lat, lon, _NEAR_KM, Shape.SECOND, dose_2=when) if given == vaccine else None


def second_shape(given: Given, first_day: date) -> str:
    """The shape of who needs dose 2 alone."""
    return f"second:{given.vaccine}:{first_day}"


def booster_shape(first_day: date) -> str:
    """The shape of who needs a booster."""
    return f"booster:{first_day}"


def _course(offer_key: bytes) -> CourseId:
    return CourseId(offer_key, Kind.OFFER, 1)


def _refused(outcome: Refused) -> needs.AcceptAnswer:
    if outcome.reason is Reason.ALREADY_BOOKED:
        return HasCourse()
    if outcome.reason in (Reason.LATE, Reason.SUPERSEDED):
        raise OutcomeUnknown(f"the acceptance of an offer was {outcome.reason}: it is asked again")
    return HoldGone()
