"""Prometheus metrics of one process. Labels are bounded: route templates, methods, statuses, named outcomes.

Children are looked up once per combination and then kept: a lookup by labels costs more than counting.
"""

import time
from typing import Any

from litestar.enums import ScopeType
from litestar.types import ASGIApp, Message, Receive, Scope, Send
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from engine.bootstrap import Engine

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
NOSNIFF = (b"x-content-type-options", b"nosniff")
UNMATCHED = "unmatched"


class Metrics:
    """The registry of one app."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "dosebook_http_requests_total",
            "Requests answered.",
            ["route", "method", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "dosebook_http_request_seconds",
            "Time from a request's arrival to its answer.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._bookings = Counter(
            "dosebook_bookings_total", "Bookings asked for, by outcome.", ["outcome"], registry=self.registry
        )
        self._of_request: dict[tuple[str, str, int], Any] = {}
        self._of_route: dict[str, Any] = {}
        self._of_outcome: dict[str, Any] = {}

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, method, status)
        counter = self._of_request.get(key)
        if counter is None:
            counter = self._of_request[key] = self._requests.labels(route, method, status)
        histogram = self._of_route.get(route)
        if histogram is None:
            histogram = self._of_route[route] = self._seconds.labels(route)
        counter.inc()
        histogram.observe(seconds)

    def outcome(self, name: str) -> None:
        """Count one booking's outcome."""
        counter = self._of_outcome.get(name)
        if counter is None:
            counter = self._of_outcome[name] = self._bookings.labels(name)
        counter.inc()

    def watch(self, engine: Engine) -> None:
        """Show the engine's own figures, read when they are asked for."""
        batcher, follower = engine.batcher, engine.follower
        self._gauge("dosebook_board_age_seconds", "Age of the board of free seats.", lambda: follower.lag_s)
        self._gauge("dosebook_board_events", "Events applied to the board.", lambda: follower.events)
        self._gauge("dosebook_board_loads", "Partitions loaded into the board.", lambda: follower.loads)
        words = "Used share of what the stores can hold; bookings are refused at 1."
        self._gauge("dosebook_pressure_ratio", words, lambda: engine.pressure.worst)
        self._gauge("dosebook_batch_calls", "Calls of the script sent to Redis.", lambda: batcher.calls)
        self._gauge("dosebook_batch_operations", "Operations in these calls.", lambda: batcher.operations)
        self._gauge("dosebook_batch_pending", "Operations queued or under way.", lambda: batcher.pending)

    def text(self) -> bytes:
        """The exposition format."""
        return generate_latest(self.registry)

    def _gauge(self, name: str, words: str, value: Any) -> None:
        Gauge(name, words, registry=self.registry).set_function(value)


class Measured:
    """Around the whole app: counts and times every request, and adds the header that every answer has."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def observed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], NOSNIFF]
            await send(message)

        try:
            await self._app(scope, receive, observed)
        finally:
            route = scope.get("path_template") or UNMATCHED
            method: str = scope.get("method", "")
            self._metrics.answered(
                route, method if method in METHODS else "other", status, time.perf_counter() - started
            )
