"""Searching for places."""

from typing import Annotated

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import Parameter

from api.messages import AvailabilityOut
from api.problems import ProblemError, problem
from api.replies import Reply, reply
from api.site import Site
from engine import limits
from engine.availability.search import Query

_Postcode = Annotated[str | None, Parameter(pattern=r"^[0-9]{5}$", description="five digits, or lat and lon")]
_Lat = Annotated[float | None, Parameter(ge=-90, le=90)]
_Lon = Annotated[float | None, Parameter(ge=-180, le=180)]
_Vaccine = Annotated[str | None, Parameter(min_length=1, max_length=32)]
_Radius = Annotated[float, Parameter(gt=0, le=limits.RADIUS_KM_MAX)]
_Limit = Annotated[int, Parameter(ge=1, le=limits.PLACES_MAX)]


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of availability."""

    @get("/v1/availability", tags=["availability"])
    async def search_places(
        postcode: _Postcode = None,
        lat: _Lat = None,
        lon: _Lon = None,
        vaccine: _Vaccine = None,
        radius_km: _Radius = 50.0,
        limit: _Limit = 5,
    ) -> Reply[AvailabilityOut]:
        """The nearest places where dose 1 and a valid dose 2 are both free: a sample of the pairs."""
        at = point_of(site, postcode, lat, lon)
        if vaccine is not None and vaccine not in site.engine.rules.intervals.vaccines:
            return problem("unknown-vaccine")
        if radius_km != radius_km:
            raise _missing("radius_km")
        places = site.engine.availability(Query(*at, radius_km, limit, vaccine))
        return reply(200, site.answers.availability(places))

    return [search_places]


def point_of(site: Site, postcode: str | None, lat: float | None, lon: float | None) -> tuple[float, float]:
    """The point to search from. Raises ``ProblemError``."""
    if postcode is None:
        if lat is None or lon is None or lat != lat or lon != lon:
            raise _missing("postcode", "lat", "lon")
        return lat, lon
    found = site.engine.postcodes.get(postcode)
    if found is None:
        raise ProblemError(problem("unknown-postcode"))
    return found.lat, found.lon


def _missing(*fields: str) -> ProblemError:
    return ProblemError(
        problem("malformed", "Give postcode, or both lat and lon, as numbers.", fields=fields)
    )
