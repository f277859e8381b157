"""Registering people."""

from datetime import UTC, date, datetime, timedelta
from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api.messages import PersonIn, PersonOut
from api.problems import problem
from api.replies import Reply, reply
from api.requests import StrictJson, Write, idempotency_key
from api.site import Site
from engine.domain.person import Facts
from engine.persons.facts import EARLIEST, pack_facts
from engine.persons.register import KeyReused, NewPerson
from engine.privacy.references import PersonRef


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of persons."""

    @post("/v1/persons", dto=StrictJson[PersonIn], operation_class=Write, tags=["persons"])
    async def register_person(data: PersonIn, request: Request[Any, Any, Any]) -> Reply[PersonOut]:
        """Register a person. The same identity gets the same reference, however often."""
        key = idempotency_key(request)
        if not EARLIEST <= data.birth_date <= _latest_today():
            return problem("birth-date")
        engine = site.engine
        try:
            known = pack_facts(Facts(data.birth_date, tuple(data.groups)), engine.rules.campaign)
        except KeyError:
            return problem("unknown-group")
        registered = await engine.registrar.register(_person(data), key)
        if isinstance(registered, KeyReused):
            return problem("key-reused")
        return reply(201, PersonOut(engine.references.of_person(PersonRef(registered, *known))))

    return [register_person]


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


def _latest_today() -> date:
    """Today where the day begins first: nobody is born tomorrow there."""
    return (datetime.now(UTC) + timedelta(hours=14)).date()
