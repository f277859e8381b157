"""A reply whose body is bytes already: nothing between a route and the socket looks at it again.

``Reply`` is one of Litestar's responses by name only, so that the type in a route's signature documents it.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from litestar import Response
from litestar.types import HTTPResponseBodyEvent, HTTPResponseStartEvent, Receive, Scope, Send

T = TypeVar("T")
Headers = Iterable[tuple[bytes, bytes]]
JSON = (b"content-type", b"application/json")
PROBLEM = (b"content-type", b"application/problem+json")
_encode = msgspec.json.Encoder().encode


class Reply(Response[T]):
    """Status, header lines and body. ``T`` is what the body says, for the documentation."""

    def __init__(self, status: int, body: bytes, headers: Headers = (), media_type: Any = JSON) -> None:
        self.status_code = self._status = status
        self.body = body
        self.lines = [media_type, (b"content-length", b"%d" % len(body)), *headers]

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        """Itself: it is an ASGI application."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it."""
        start: HTTPResponseStartEvent = {
            "type": "http.response.start",
            "status": self._status,
            "headers": self.lines,
        }
        body: HTTPResponseBodyEvent = {"type": "http.response.body", "body": self.body, "more_body": False}
        await send(start)
        await send(body)


def reply(status: int, content: T, headers: Headers = ()) -> Reply[T]:
    """The content as JSON."""
    return Reply(status, _encode(content), headers)
