"""The API with one route more: a booking that books nothing, behind the same middleware, body and answer.

``python -m benchmarks.app --fd N`` serves it as ``api.serve`` serves the API.
"""

from typing import Any

from litestar import Request, post
from litestar.handlers import HTTPRouteHandler

from api import serve
from api.app import create_app
from api.messages import BookingIn, BookingOut
from api.replies import Reply, reply
from api.requests import StrictJson
from api.site import Site
from engine.domain.course import Appointment, Course, CourseId, Kind

NOOP_PATH = "/benchmark/noop"


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The no-op: decode the body, encode an answer of the same shape; no checks, no engine, no Redis."""

    @post(NOOP_PATH, dto=StrictJson[BookingIn])
    async def noop(data: BookingIn, request: Request[Any, Any, Any]) -> Reply[BookingOut]:
        """Answer at once."""
        wishes = ((1, data.dose1), (2, data.dose2))
        appointments = tuple(Appointment(dose, wish.session, wish.slot, 0) for dose, wish in wishes)
        location = site.engine.catalogue.sessions[data.dose1.session].location
        course = Course(CourseId(bytes(16), Kind.PRIMARY, 1), location, "booked", appointments)
        return reply(201, site.answers.booking(course, "booked"))

    return [noop]


if __name__ == "__main__":
    serve.main(app=lambda settings: create_app(settings, more=[routes]))
