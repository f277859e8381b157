"""Wishes, not only slots: "the earliest pair within 10 km", "after 17:00, dose 2 at the same time"."""

import hashlib
from datetime import date, time
from typing import Any

import msgspec
from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api.messages import HouseholdOut, NearIn, PlansOut, PreferenceIn, WhenIn
from api.people import someone_of
from api.problems import ProblemError, problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.routes.availability import point_of
from api.routes.bookings import KINDS, hold_ms_of
from api.site import Site
from engine import limits
from engine.availability.preference import EVERY_DAY, Order, Preference, When
from engine.persons.facts import Known
from engine.wishes.book import Asked

_encode = msgspec.msgpack.Encoder().encode


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of wishes."""

    @post("/v1/wishes", dto=StrictJson[PreferenceIn], operation_class=Write, tags=["wishes"])
    async def book_wish(data: PreferenceIn, request: Request[Any, Any, Any]) -> Reply[HouseholdOut]:
        """Book, or hold, the first that suits and is free. The same key and body get the same answer."""
        key = idempotency_key(request)
        asked, knowns = _asked(site, data)
        outcome = await site.engine.wishes.book(asked, key, hashlib.sha256(_encode(data)).digest())
        return site.answers.of_household(outcome, [()] * len(knowns), knowns)

    @post("/v1/plans", dto=StrictJson[PreferenceIn], status_code=200, tags=["wishes"])
    async def find_plans(data: PreferenceIn) -> Reply[PlansOut]:
        """What would suit, as far as it is free now: for each way, what each of the people may book."""
        asked, _ = _asked(site, data)
        return reply(200, site.answers.plans(site.engine.wishes.find(asked, limits.ALTERNATIVES_MAX)))

    return [book_wish, find_plans]


def _asked(site: Site, data: PreferenceIn) -> tuple[Asked, list[Known]]:
    """What is asked for, and what references carry of the people. Raises ``ProblemError``."""
    if data.vaccines is not None and not set(data.vaccines) <= set(site.engine.rules.intervals.vaccines):
        raise ProblemError(problem("unknown-vaccine"))
    alone = len(data.people) == 1
    found = [someone_of(site, one, None if alone else member) for member, one in enumerate(data.people)]
    people = tuple(someone for someone, _ in found)
    if len({someone.person for someone in people}) < len(people):
        raise ProblemError(problem("household-twice"))
    asked = Asked(people, KINDS[data.kind], _preference(site, data), hold_ms_of(site, hold=data.hold))
    return asked, [known for _, known in found]


def _preference(site: Site, data: PreferenceIn) -> Preference:
    lat, lon = _point(site, data.near)
    return Preference(
        lat,
        lon,
        data.near.radius_km,
        order=Order(data.order),
        vaccines=None if data.vaccines is None else frozenset(data.vaccines),
        dose_1=_when(data.dose1),
        dose_2=_when(data.dose2),
        same_time_minutes=data.same_time_minutes,
        elsewhere=data.elsewhere,
    )


def _point(site: Site, near: NearIn) -> tuple[float, float]:
    return point_of(site, near.postcode, near.lat, near.lon)


def _when(data: WhenIn) -> When:
    weekdays = EVERY_DAY if data.weekdays is None else frozenset(day - 1 for day in data.weekdays)
    after = time.min if data.after is None else time.fromisoformat(data.after)
    before = None if data.before is None else time.fromisoformat(data.before)
    return When(data.day_min or date.min, data.day_max or date.max, weekdays, after, before)
