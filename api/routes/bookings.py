"""Booking both doses, looking at a booking, cancelling it."""

from typing import Any

from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler

from api.messages import BookingIn, BookingOut
from api.problems import problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.site import Site
from engine.booking.rules import Impossible, Rule
from engine.domain.course import CourseId, Wish


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of bookings."""

    @post("/v1/bookings", dto=StrictJson[BookingIn], operation_class=Write, tags=["bookings"])
    async def create_booking(data: BookingIn, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Book both doses in one step, or neither. The same key and body get the same answer."""
        key = idempotency_key(request)
        wishes = Wish(1, data.dose1.session, data.dose1.slot), Wish(2, data.dose2.session, data.dose2.slot)
        ref = site.engine.references.person(data.person)
        if ref is None:
            return site.answers.of_booking(Impossible(Rule.UNKNOWN_PERSON), wishes)
        return site.answers.of_booking(await site.engine.desk.book(ref.person, wishes, key), wishes)

    @get("/v1/bookings/{reference:str}", tags=["bookings"])
    async def read_booking(reference: str) -> Reply[BookingOut]:
        """The booking as it stands now."""
        ref = site.engine.references.booking(reference)
        if ref is None:
            return problem("not-found")
        course = await site.engine.desk.read(CourseId(ref.person, ref.kind, ref.generation), ref.location)
        if course is None:
            return problem("not-found")
        return reply(200, site.answers.booking(course, course.state))

    @delete("/v1/bookings/{reference:str}", status_code=200, operation_class=Write, tags=["bookings"])
    async def cancel_booking(reference: str, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Give both seats back. Cancelling once more gets the same answer."""
        key = idempotency_key(request)
        ref = site.engine.references.booking(reference)
        if ref is None:
            return problem("not-found")
        course = CourseId(ref.person, ref.kind, ref.generation)
        outcome = await site.engine.desk.cancel(course, ref.location, key)
        return site.answers.of_cancellation(outcome, reference)

    return [create_booking, read_booking, cancel_booking]
