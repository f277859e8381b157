"""Whether the process lives, whether it takes bookings, and its metrics."""

from typing import Any

from litestar import get
from litestar.handlers import HTTPRouteHandler

from api.messages import ReadyOut
from api.replies import Reply, reply
from api.site import Site

TEXT = (b"content-type", b"text/plain; charset=utf-8")
EXPOSITION = (b"content-type", b"text/plain; version=1.0.0; charset=utf-8; escaping=underscores")


def routes(site: Site) -> list[HTTPRouteHandler]:
    """The routes of health."""

    @get("/health/live", tags=["health"])
    async def live() -> Reply[str]:
        """200 as long as the process answers at all."""
        return Reply(200, b"live\n", media_type=TEXT)

    @get("/health/ready", tags=["health"])
    async def ready() -> Reply[ReadyOut]:
        """200 if every partition takes bookings from this process and the board is loaded; else 503."""
        engine = site.engine
        closed = {str(partition): why for partition, why in (await engine.probe.closed()).items()}
        is_ready = not closed and engine.follower.is_loaded
        out = ReadyOut(is_ready, closed, round(engine.follower.lag_s, 3), engine.follower.is_loaded)
        return reply(200 if is_ready else 503, out)

    @get("/metrics", include_in_schema=False)
    async def metrics() -> Reply[Any]:
        """Prometheus' text format."""
        return Reply(200, site.metrics.text(), media_type=EXPOSITION)

    return [live, ready, metrics]
