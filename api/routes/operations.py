"""What became of a write whose answer was lost."""

from litestar import get
from litestar.handlers import HTTPRouteHandler

from api.messages import BookingOut
from api.problems import problem
from api.replies import Reply
from api.site import Site
from engine.booking.desk import Pending
from engine.persons.facts import Known


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of operations."""

    @get("/v1/operations/{reference:str}", tags=["operations"])
    async def read_operation(reference: str) -> Reply[BookingOut]:
        """200 with the booking or ``not-booked``; 202 while it is not decided."""
        ref = site.engine.references.operation(reference)
        if ref is None:
            return problem("not-found")
        asked = Pending(ref.person, ref.kind, ref.op, ref.not_after_ms)
        known = Known(ref.born, ref.groups)
        return site.answers.of_operation(await site.engine.desk.operation(asked), known)

    return [read_operation]
