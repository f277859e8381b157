"""Registering people."""

import hmac
from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api.messages import HomonymIn, PersonIn, PersonOut
from api.people import latest_today
from api.problems import ProblemError, problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.site import Site
from engine.domain.person import Facts
from engine.persons.facts import EARLIEST, Known, pack_facts
from engine.persons.register import KeyReused, NewPerson
from engine.privacy.references import PersonRef


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of persons."""

    @post("/v1/persons", dto=StrictJson[PersonIn], operation_class=Write, tags=["persons"])
    async def register_person(data: PersonIn, request: Request[Any, Any, Any]) -> Reply[PersonOut]:
        """Register a person. The same identity gets the same reference, however often."""
        key = idempotency_key(request)
        known = _known(site, data)
        return _registered(site, await site.engine.registrar.register(_person(data), key), known)

    @post("/v1/helpline/persons", dto=StrictJson[HomonymIn], operation_class=Write, tags=["helpline"])
    async def register_homonym(data: HomonymIn, request: Request[Any, Any, Any]) -> Reply[PersonOut]:
        """Tell somebody apart from a namesake of the same birth date; logged with agent and reason."""
        key = idempotency_key(request)
        _check_helpline(site, request)
        if not data.who.disambiguator.strip():
            return problem("disambiguator")
        known = _known(site, data.who)
        registered = await site.engine.homonyms.register(_person(data.who), data.agent, data.reason, key)
        return _registered(site, registered, known)

    return [register_person, register_homonym]


def _registered(site: Site, registered: bytes | KeyReused, known: Known) -> Reply[PersonOut]:
    if isinstance(registered, KeyReused):
        return problem("key-reused")
    return reply(201, PersonOut(site.engine.references.of_person(PersonRef(registered, *known))))


def _known(site: Site, data: PersonIn) -> Known:
    """What references will carry. Raises ``ProblemError``."""
    if not EARLIEST <= data.birth_date <= latest_today():
        raise ProblemError(problem("birth-date"))
    try:
        return pack_facts(Facts(data.birth_date, tuple(data.groups)), site.engine.rules.campaign)
    except KeyError:
        raise ProblemError(problem("unknown-group")) from None


def _check_helpline(site: Site, request: Request[Any, Any, Any]) -> None:
    """Raises ``ProblemError`` for whoever does not have the helpline's key."""
    expected = "Bearer " + site.engine.helpline_key.hex()
    if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected.encode()):
        raise ProblemError(problem("helpline-only", headers=[(b"www-authenticate", b"Bearer")]))


def _person(data: PersonIn) -> NewPerson:
    return NewPerson(
        data.family_name,
        data.given_names,
        data.birth_date,
        data.disambiguator,
        data.email or "",
        data.phone or "",
        tuple(sorted(set(data.groups))),
    )
