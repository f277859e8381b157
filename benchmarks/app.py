"""The API with one route more: a booking that books nothing, behind the same middleware, body and answer.

``python -m benchmarks.app --fd N`` serves it as ``api.serve`` serves the API.
"""

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api import serve
from api.app import create_app
from api.messages import AppointmentOut, BookingIn, BookingOut, LocationOut
from api.people import wishes_of
from api.problems import problem
from api.replies import Reply, reply
from api.requests import StrictJson, idempotency_key
from api.site import Site

NOOP_PATH = "/benchmark/noop"
BARE_PATH = "/benchmark/bare"
# As long as the real ones.
REFERENCE = "bkg_" + "0" * 94
HEADERS = [(b"location", b"/v1/bookings/" + REFERENCE.encode())]
LOCATION = LocationOut(1, "Location 1", "", "75011", "Paris")
NOON = datetime(2021, 7, 12, 12, tzinfo=ZoneInfo("Europe/Paris"))


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The no-op: what every write passes at the door, an answer of the same shape, no engine behind.

    The bare one passes nothing at the door: it decodes the body and answers.
    """

    @post(NOOP_PATH, dto=StrictJson[BookingIn])
    async def noop(data: BookingIn, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Answer at once."""
        idempotency_key(request)
        if site.engine.references.person(data.person) is None:
            return problem("unknown-person")
        return _answer(data)

    @post(BARE_PATH, dto=StrictJson[BookingIn])
    async def bare(data: BookingIn) -> Reply[BookingOut]:
        """Answer at once, whoever asks."""
        return _answer(data)

    return [noop, bare]


def _answer(data: BookingIn) -> Reply[BookingOut]:
    appointments = [
        AppointmentOut(wish.dose, wish.session, wish.slot, 0, NOON, LOCATION.id)
        for wish in wishes_of(data.dose1, data.dose2)
    ]
    return reply(201, BookingOut(REFERENCE, "booked", "pfizer", LOCATION, appointments), HEADERS)


if __name__ == "__main__":
    serve.main(app=lambda settings: create_app(settings, more=[routes]))
