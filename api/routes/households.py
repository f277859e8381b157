"""People who book together: at one location, at neighbouring times, all of them or none."""

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api.messages import BookingsIn, HoldOut, HouseholdIn, HouseholdOut
from api.people import applicant_of, booking_of, known_of, person_of, place_of
from api.problems import ProblemError, problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.routes.bookings import KINDS, hold_ms_of
from api.site import Site
from engine.booking.desk import Order
from engine.booking.outcomes import Confirmed
from engine.privacy.references import BookingRef


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of households."""

    @post("/v1/households", dto=StrictJson[HouseholdIn], operation_class=Write, tags=["households"])
    async def book_household(data: HouseholdIn, request: Request[Any, Any, Any]) -> Reply[HouseholdOut]:
        """Book for up to eight people in one step: all of them or none."""
        key = idempotency_key(request)
        refs = [person_of(site, one.person, member) for member, one in enumerate(data.members)]
        applicants = tuple(applicant_of(site, ref, one) for ref, one in zip(refs, data.members, strict=True))
        order = Order(applicants, KINDS[data.kind], hold_ms_of(site, hold=data.hold))
        outcome = await site.engine.desk.book(order, key)
        wished = [applicant.wishes for applicant in applicants]
        return site.answers.of_household(outcome, wished, [known_of(ref) for ref in refs])

    @post(
        "/v1/households/confirmation",
        dto=StrictJson[BookingsIn],
        status_code=200,
        operation_class=Write,
        tags=["households"],
    )
    async def confirm_household(data: BookingsIn, request: Request[Any, Any, Any]) -> Reply[HouseholdOut]:
        """Make the holds of a household final: all of them or none."""
        key = idempotency_key(request)
        refs = _together(site, data)
        places = [place_of(ref) for ref in refs]
        outcome = await site.engine.changes.confirm(places, key)
        if not isinstance(outcome, Confirmed):
            return site.answers.of_refused_change(outcome)
        courses = [await site.engine.changes.read(place) for place in places]
        bookings = [
            site.answers.booking(course, known_of(ref))
            for course, ref in zip(courses, refs, strict=True)
            if course is not None
        ]
        return reply(200, HouseholdOut(bookings))

    @post(
        "/v1/households/extension",
        dto=StrictJson[BookingsIn],
        status_code=200,
        operation_class=Write,
        tags=["households"],
    )
    async def extend_household(data: BookingsIn, request: Request[Any, Any, Any]) -> Reply[HoldOut]:
        """Let the holds of a household end later: all of them or none."""
        key = idempotency_key(request)
        places = [place_of(ref) for ref in _together(site, data)]
        return site.answers.of_extension(await site.engine.changes.extend(places, key))

    return [book_household, confirm_household, extend_household]


def _together(site: Site, data: BookingsIn) -> list[BookingRef]:
    """Bookings of one location, each once. Raises ``ProblemError``."""
    refs = [booking_of(site, reference) for reference in data.bookings]
    if len({ref.location for ref in refs}) > 1:
        raise ProblemError(problem("one-location"))
    if len({ref.person for ref in refs}) < len(refs):
        raise ProblemError(problem("household-twice"))
    return refs
