"""Waiting for a seat where none is free: join, see the place, leave; take or refuse what is offered."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from litestar import Request, delete, get, post
from litestar.handlers import HTTPRouteHandler
from msgspec import UNSET

from api.messages import EntryIn, EntryOut, EntryRefOut, HouseholdOut, OfferOut, PlaceInLineOut
from api.people import someone_of
from api.problems import ProblemError, problem, refusal
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.routes.availability import point_of
from api.routes.bookings import KINDS
from api.site import Site
from engine.persons.facts import pack_facts
from engine.privacy.references import EntryRef, OfferRef
from engine.rules.refusal import Refusal
from engine.storage.waitlist import Area
from engine.waitlist.entries import NotJoined
from engine.waitlist.offers import Accepted, NotAccepted, Offered, UnknownOffer
from engine.waitlist.states import EntryState, OfferState, Purpose
from engine.wishes.waiting import Waiting

EVERY_DAY = 127
DAYS = timedelta(days=90)


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of the waitlist."""

    @post("/v1/waitlist", dto=StrictJson[EntryIn], operation_class=Write, tags=["waitlist"])
    async def join_waitlist(data: EntryIn, request: Request[Any, Any, Any]) -> Reply[EntryRefOut]:
        """Wait for one or for a family; or only be told (``alert``)."""
        key = idempotency_key(request)
        outcome = await site.engine.waitlist.join(_waiting(site, data), key)
        if isinstance(outcome, Refusal):
            return refusal(outcome)
        if isinstance(outcome, NotJoined):
            return problem(str(outcome.bar) if outcome.bar in _NAMED else f"waitlist-{outcome.bar}")
        reference = site.engine.references.of_entry(EntryRef(outcome.entry))
        headers = [(b"location", b"/v1/waitlist/" + reference.encode())]
        return reply(201, EntryRefOut(reference), headers)

    @get("/v1/waitlist/{reference:str}", tags=["waitlist"])
    async def read_entry(reference: str) -> Reply[EntryOut]:
        """How it stands: the place in line, and what is offered now."""
        return reply(200, await _entry(site, _ref(site, reference).entry))

    @delete("/v1/waitlist/{reference:str}", status_code=200, operation_class=Write, tags=["waitlist"])
    async def leave_waitlist(reference: str, request: Request[Any, Any, Any]) -> Reply[EntryOut]:
        """Wait no longer; an offer that stands is withdrawn."""
        idempotency_key(request)
        entry = _ref(site, reference).entry
        state = await site.engine.waitlist.entries.leave(entry)
        if state is EntryState.OFFERED:
            return problem("offer-under-way")
        return reply(200, await _entry(site, entry))

    @post("/v1/offers/{reference:str}/acceptance", operation_class=Write, tags=["waitlist"])
    async def accept_offer(reference: str, request: Request[Any, Any, Any]) -> Reply[HouseholdOut]:
        """Book what is offered: for all of the entry's people, or none."""
        key = idempotency_key(request)
        ref = site.engine.references.offer(reference)
        if ref is None:
            return problem("not-found")
        outcome = await site.engine.offers.accept(ref.offer, key)
        if isinstance(outcome, Accepted):
            return reply(201, await _booked(site, ref, outcome))
        if isinstance(outcome, NotAccepted):
            return problem("offer-gone", f"The offer is {outcome.state}. Your place in line is kept.")
        return problem("not-found")

    @delete("/v1/offers/{reference:str}", status_code=200, operation_class=Write, tags=["waitlist"])
    async def refuse_offer(reference: str, request: Request[Any, Any, Any]) -> Reply[EntryOut]:
        """Say no: it goes to the next, and the place in line is kept."""
        idempotency_key(request)
        ref = site.engine.references.offer(reference)
        if ref is None:
            return problem("not-found")
        state = await site.engine.offers.refuse(ref.offer)
        if isinstance(state, UnknownOffer):
            return problem("not-found")
        if state in (OfferState.ACCEPTING, OfferState.ACCEPTED):
            return problem("offer-under-way")
        return reply(200, await _entry(site, ref.entry))

    return [join_waitlist, read_entry, leave_waitlist, accept_offer, refuse_offer]


# Bars that are called like their problem; the others' begins with `waitlist-`.
_NAMED = frozenset({"unknown-person", "already-booked", "key-reused", "waitlist-full"})


def _waiting(site: Site, data: EntryIn) -> Waiting:
    """What is waited for. Raises ``ProblemError``."""
    vaccines = None if data.vaccines is None else frozenset(data.vaccines)
    if vaccines is not None and not vaccines <= set(site.engine.rules.intervals.vaccines):
        raise ProblemError(problem("unknown-vaccine"))
    alone = len(data.people) == 1
    people = [someone_of(site, one, None if alone else member)[0] for member, one in enumerate(data.people)]
    if len({one.person for one in people}) < len(people):
        raise ProblemError(problem("household-twice"))
    lat, lon = point_of(site, data.near.postcode, data.near.lat, data.near.lon)
    today = datetime.now(UTC).date()
    first = data.day_min or today
    weekdays = EVERY_DAY if data.weekdays is None else sum(1 << (day - 1) for day in set(data.weekdays))
    return Waiting(
        tuple(people),
        KINDS[data.kind],
        Area(lat, lon, data.near.radius_km),
        first,
        data.day_max or min(first, date.max - DAYS) + DAYS,
        weekdays,
        vaccines,
        Purpose.ALERT if data.alert else Purpose.SEATS,
    )


def _ref(site: Site, reference: str) -> EntryRef:
    ref = site.engine.references.entry(reference)
    if ref is None:
        raise ProblemError(problem("not-found"))
    return ref


async def _entry(site: Site, entry: int) -> EntryOut:
    """How an entry stands. Raises ``ProblemError`` for one that is forgotten."""
    row = await site.engine.waitlist.entries.read(entry)
    if row is None:
        raise ProblemError(problem("not-found"))
    place = await site.engine.waitlist.entries.place(entry)
    offered = await site.engine.offers.of_entry(entry)
    is_alert = row.purpose == Purpose.ALERT
    told = await site.engine.waitlist.entries.told(entry) if is_alert else []
    return EntryOut(
        _status(row.state, offered),
        is_alert,
        None if place is None else PlaceInLineOut(place.before, place.or_more),
        None if offered is None else _offer(site, entry, offered),
        site.answers.told(told) if told else UNSET,
    )


def _status(state: str, offered: Offered | None) -> str:
    """An entry is offered something once it is told what: while the seats are being set aside, it waits."""
    if state in (EntryState.WAITING, EntryState.OFFERED):
        return str(EntryState.WAITING if offered is None else EntryState.OFFERED)
    return str(state)


def _offer(site: Site, entry: int, offered: Offered) -> OfferOut:
    reference = site.engine.references.of_offer(OfferRef(offered.offer.id, entry))
    plans = [site.answers.wished(wishes) for wishes in offered.plan]
    return OfferOut(reference, str(offered.offer.state), offered.deadline, plans)


async def _booked(site: Site, ref: OfferRef, outcome: Accepted) -> HouseholdOut:
    """The bookings, each with what is known of its member."""
    members = await site.engine.offers.members(ref.entry)
    campaign = site.engine.rules.campaign
    knowns = {member.person: pack_facts(member.facts, campaign) for member in members}
    return HouseholdOut(
        [site.answers.booking(course, knowns[course.id.person]) for course in outcome.courses]
    )
