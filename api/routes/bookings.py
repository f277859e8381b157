"""A person's course: book it or hold it, look at it, confirm, prolong, move, cancel."""

from typing import Any

from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler

from api.messages import BookingIn, BookingOut, HoldOut, MemberIn, MoveIn
from api.people import applicant_of, booking_of, known_of, person_of, place_of, wishes_of
from api.problems import problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.site import Site
from engine.booking.desk import Order
from engine.booking.outcomes import Confirmed
from engine.domain.course import Kind
from engine.persons.facts import facts_of
from engine.rules.refusal import Refusal, Rule

KINDS = {"primary": Kind.PRIMARY, "booster": Kind.BOOSTER}


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of bookings."""

    @post("/v1/bookings", dto=StrictJson[BookingIn], operation_class=Write, tags=["bookings"])
    async def create_booking(data: BookingIn, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Book all doses in one step, or none. The same key and body get the same answer."""
        key = idempotency_key(request)
        ref = person_of(site, data.person)
        member = MemberIn(data.person, data.dose1, data.dose2, data.given)
        applicant = applicant_of(site, ref, member)
        order = Order((applicant,), KINDS[data.kind], hold_ms_of(site, hold=data.hold))
        outcome = await site.engine.desk.book(order, key)
        return site.answers.of_booking(outcome, applicant.wishes, known_of(ref))

    @get("/v1/bookings/{reference:str}", tags=["bookings"])
    async def read_booking(reference: str) -> Reply[BookingOut]:
        """The booking as it stands now."""
        ref = booking_of(site, reference)
        course = await site.engine.changes.read(place_of(ref))
        if course is None:
            return problem("not-found")
        return reply(200, site.answers.booking(course, known_of(ref)))

    @delete("/v1/bookings/{reference:str}", status_code=200, operation_class=Write, tags=["bookings"])
    async def cancel_booking(reference: str, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Give all seats back, of a hold too. Cancelling once more gets the same answer."""
        key = idempotency_key(request)
        ref = booking_of(site, reference)
        outcome = await site.engine.changes.cancel(place_of(ref), key)
        return site.answers.of_cancellation(outcome, known_of(ref))

    @delete(
        "/v1/bookings/{reference:str}/doses/{dose:int}",
        status_code=200,
        operation_class=Write,
        tags=["bookings"],
    )
    async def cancel_dose(reference: str, dose: int, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Give dose 2 back and keep dose 1; with dose 1 every dose goes."""
        key = idempotency_key(request)
        ref = booking_of(site, reference)
        if dose not in (1, 2):
            return problem("no-such-dose")
        outcome = await site.engine.changes.cancel(place_of(ref), key, (dose,))
        return site.answers.of_cancellation(outcome, known_of(ref))

    @post(
        "/v1/bookings/{reference:str}/moves",
        dto=StrictJson[MoveIn],
        status_code=200,
        operation_class=Write,
        tags=["bookings"],
    )
    async def move_booking(
        reference: str, data: MoveIn, request: Request[Any, Any, Any]
    ) -> Reply[BookingOut]:
        """Move doses to other slots; the new seat is taken before the old one is given back.

        Where dose 2 would not fit any more, nothing changes, and the problem names ``repairs``: send both
        doses to choose one.
        """
        key = idempotency_key(request)
        ref = booking_of(site, reference)
        wishes = {wish.dose: wish for wish in wishes_of(data.dose1, data.dose2)}
        if not wishes:
            return problem("no-such-dose", "Name dose1, dose2 or both.")
        facts, place = facts_of(known_of(ref), site.engine.rules.campaign), place_of(ref)
        outcome = await site.engine.changes.move(place, facts, wishes, key)
        repairs = []
        if isinstance(outcome, Refusal) and outcome.rule is Rule.INTERVAL and set(wishes) == {1}:
            repairs = site.engine.repairs(Kind(ref.kind), wishes[1], facts)
        return site.answers.of_move(outcome, known_of(ref), repairs)

    @post(
        "/v1/bookings/{reference:str}/confirmation",
        status_code=200,
        operation_class=Write,
        tags=["bookings"],
    )
    async def confirm_hold(reference: str, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Make a hold final."""
        key = idempotency_key(request)
        ref = booking_of(site, reference)
        outcome = await site.engine.changes.confirm([place_of(ref)], key)
        if not isinstance(outcome, Confirmed):
            return site.answers.of_refused_change(outcome)
        return await read_booking.fn(reference)  # type: ignore[no-any-return]

    @post(
        "/v1/bookings/{reference:str}/extension",
        status_code=200,
        operation_class=Write,
        tags=["bookings"],
    )
    async def extend_hold(reference: str, request: Request[Any, Any, Any]) -> Reply[HoldOut]:
        """Let a hold end later, as often as the campaign allows."""
        key = idempotency_key(request)
        ref = booking_of(site, reference)
        return site.answers.of_extension(await site.engine.changes.extend([place_of(ref)], key))

    return [
        create_booking,
        read_booking,
        cancel_booking,
        cancel_dose,
        move_booking,
        confirm_hold,
        extend_hold,
    ]


def hold_ms_of(site: Site, *, hold: bool) -> int:
    """How long seats are held; 0 books them."""
    return site.engine.rules.campaign.holds.ttl_seconds * 1000 if hold else 0
