"""The ASGI application: routes, problems, measuring; its lifespan opens and closes the engine."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.types import ASGIApp

from api.metrics import Measured, Metrics
from api.problems import on_exception
from api.routes import availability, bookings, health, households, operations, persons, waitlist, wishes
from api.site import Site
from engine import limits
from engine.bootstrap import open_engine
from engine.settings import Settings

Routes = Callable[[Site], Sequence[HTTPRouteHandler]]
ROUTES: tuple[Routes, ...] = (
    persons.routes,
    availability.routes,
    bookings.routes,
    households.routes,
    wishes.routes,
    waitlist.routes,
    operations.routes,
    health.routes,
)


def create_app(settings: Settings, more: Sequence[Routes] = ()) -> ASGIApp:
    """The application. ``more`` are further routes under the same middleware, for benchmarks."""
    site = Site(Metrics())

    @asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        async with open_engine(settings) as engine:
            site.open(engine)
            site.metrics.watch(engine)
            yield

    app = Litestar(
        route_handlers=[handler for routes in (*ROUTES, *more) for handler in routes(site)],
        lifespan=[lifespan],
        exception_handlers={Exception: on_exception},
        request_max_body_size=limits.BODY_BYTES_MAX,
        openapi_config=OpenAPIConfig("dosebook", "1", path="/schema", render_plugins=[JsonRenderPlugin()]),
        logging_config=None,
    )
    return Measured(app, site.metrics)
