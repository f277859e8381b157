"""A small HTTP/1.1 client with a pool of kept-alive connections, for load from the same machine.

Invariants: at most ``connections_max`` connections are open; one request is under way on a connection; every
request ends by its deadline, waiting for a connection and connecting included. A connection whose exchange
did not end well (deadline, cancellation, broken reply) is aborted, so that no reply reaches the next caller.
Servers close connections that rest: a request on such a one is sent once more on a new connection, so every
write needs an idempotency key.

On failure: `NoAnswer`. Whether the server has done what was asked is then unknown: repeat a write with the
same idempotency key. The next request opens a new connection by itself. Addresses that are not loopback are
refused with `NotLoopback` before anything is sent: this is a tool to load one's own machine.
"""

import asyncio
import contextlib
import ipaddress
from typing import Any
from urllib.parse import urlsplit

import httptools
import msgspec

CONNECTIONS_MAX = 256
DEADLINE_S = 10.0
RETRY_AFTER_S_MAX = 60.0
_NO_CONTENT = b""


class NotLoopback(ValueError):
    """The address is not one of this machine; nothing was sent."""


class NoAnswer(Exception):
    """No whole answer came: no connection, it broke, or the deadline passed."""


class Reply(msgspec.Struct, gc=False):
    """An answer. ``retry_after_s`` is None without the header, and for a date instead of seconds."""

    status: int
    body: bytes
    retry_after_s: float | None
    location: str

    def json(self) -> Any:
        """The body as plain values. Raises ``msgspec.DecodeError`` if it is not JSON."""
        return msgspec.json.decode(self.body)


def loopback_address(url: str) -> tuple[str, int]:
    """Host and port of an ``http://`` address on this machine. Raises `NotLoopback`; asks no name server."""
    parts = urlsplit(url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or parts.scheme != "http":
        raise NotLoopback(f"{url} is not http:// on this machine: give http://127.0.0.1:PORT")
    return host, parts.port or 80


def _retry_after_s(value: bytes) -> float | None:
    """Seconds, bounded; a date (RFC 9110 allows one) counts as none."""
    return min(float(value), RETRY_AFTER_S_MAX) if value.isdigit() else None


class _Connection(asyncio.Protocol):
    """One connection: it writes a request and collects the reply that the parser reports."""

    def __init__(self) -> None:
        self.reusable = False
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiting: asyncio.Future[Reply] | None = None
        self._parts: list[bytes] = []
        self._retry_after_s: float | None = None
        self._location = ""

    async def exchange(self, request: bytes) -> Reply:
        """Send the request, return its whole reply. Raises `NoAnswer` if the connection breaks first."""
        if self._transport is None or not self.reusable:
            raise NoAnswer("the connection is closed")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def abort(self) -> None:
        """Close at once; a reply that still comes reaches nobody."""
        self.reusable = False
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # TCP gives a Transport
        self.reusable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.reusable = False
        self._transport = None
        self._fail(f"the connection was closed ({exc or 'by the server'})")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.abort()
            self._fail(f"not HTTP: {error}")

    def on_message_begin(self) -> None:
        self._parts = []
        self._retry_after_s = None
        self._location = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) == 11 and name.lower() == b"retry-after":
            self._retry_after_s = _retry_after_s(value)
        elif len(name) == 8 and name.lower() == b"location":
            self._location = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            return  # 100 Continue and 103 Early Hints come before the answer.
        if not self._parser.should_keep_alive():
            self.abort()
        body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result(Reply(status, body, self._retry_after_s, self._location))

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(NoAnswer(why))


class Client:
    """Requests to one server. ``deadline_s`` bounds each of them, queueing for a connection included."""

    def __init__(
        self, url: str, *, connections_max: int = CONNECTIONS_MAX, deadline_s: float = DEADLINE_S
    ) -> None:
        self._host, self._port = loopback_address(url)
        self._deadline_s = deadline_s
        self._turn = asyncio.Semaphore(connections_max)
        self._idle: list[_Connection] = []
        host = f"{self._host}:{self._port}"
        self._common = f" HTTP/1.1\r\nhost: {host}\r\naccept: application/json\r\n".encode()
        self.connected = 0

    async def request(
        self, method: bytes, path: str, body: bytes = _NO_CONTENT, key: str = "", *, deadline_s: float = 0
    ) -> Reply:
        """The whole answer, whatever its status. Raises `NoAnswer` when none came by the deadline."""
        data = self._encode(method, path, body, key)
        try:
            async with asyncio.timeout(deadline_s or self._deadline_s), self._turn:
                return await self._exchange(data)
        except TimeoutError:
            raise NoAnswer("the deadline passed") from None
        except OSError as error:
            raise NoAnswer(f"no connection: {error}") from error

    async def close(self) -> None:
        """Close what is idle. Requests under way must have ended."""
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)

    def _encode(self, method: bytes, path: str, body: bytes, key: str) -> bytes:
        head = b"%b %b%b" % (method, path.encode("ascii"), self._common)
        if key:
            head += b"idempotency-key: %b\r\n" % key.encode("ascii")
        if not body:
            return head + b"\r\n"
        return b"%bcontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (head, len(body), body)

    async def _exchange(self, request: bytes) -> Reply:
        """On a connection that rested; once more on a new one if the server had just closed that."""
        rested = self._rested()
        if rested is not None:
            with contextlib.suppress(NoAnswer):
                return await self._exchange_on(rested, request)
        return await self._exchange_on(await self._connect(), request)

    async def _exchange_on(self, connection: _Connection, request: bytes) -> Reply:
        try:
            reply = await connection.exchange(request)
        except BaseException:
            connection.abort()
            raise
        if connection.reusable:
            self._idle.append(connection)
        return reply

    def _rested(self) -> _Connection | None:
        """The open connection that was used last; the others may rest longer."""
        while self._idle:
            connection = self._idle.pop()
            if connection.reusable:
                return connection
        return None

    async def _connect(self) -> _Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(_Connection, self._host, self._port)
        self.connected += 1
        return connection
