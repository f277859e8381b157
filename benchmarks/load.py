"""A closed loop of keep-alive connections that costs as little as it can: the server is what is measured.

Requests are made beforehand; a response is read up to its Content-Length and only its status is looked at.
Loopback only, bounded by the number of requests.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator

import msgspec

STATUS = slice(9, 12)
HEADERS_END = b"\r\n\r\n"
LENGTH = b"content-length: "


class LoadResult(msgspec.Struct, frozen=True):
    """``seconds`` from the first request to the last response; latencies in milliseconds, sorted."""

    seconds: float
    latencies_ms: list[float]
    statuses: dict[str, int]

    @property
    def rps(self) -> float:
        """Responses per second."""
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, share: float) -> float:
        """Latency that ``share`` of the responses did not exceed."""
        return self.latencies_ms[min(len(self.latencies_ms) - 1, int(share * len(self.latencies_ms)))]


class _Connection(asyncio.Protocol):
    """Sends the next request when the response to the last one is whole."""

    def __init__(self, requests: Iterator[bytes], latencies: list[float], statuses: Counter[str]) -> None:
        self.done = asyncio.get_running_loop().create_future()
        self._requests = requests
        self._latencies = latencies
        self._statuses = statuses
        self._buffer = b""
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        head = self._buffer.find(HEADERS_END)
        if head < 0:
            return
        at = self._buffer.find(LENGTH, 0, head) + len(LENGTH)
        length = int(self._buffer[at : self._buffer.find(b"\r", at)])
        if len(self._buffer) < head + len(HEADERS_END) + length:
            return
        self._latencies.append((time.perf_counter() - self._sent_at) * 1000)
        self._statuses[self._buffer[STATUS].decode()] += 1
        self._buffer = b""
        self._next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(error or ConnectionError("the server closed the connection"))

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self.done.set_result(None)
            self._transport.close()
            return
        self._sent_at = time.perf_counter()
        self._transport.write(request)  # type: ignore[attr-defined]  # create_connection makes a Transport


async def closed_loop(port: int, clients: int, requests: list[bytes]) -> LoadResult:
    """Send the requests through ``clients`` connections to 127.0.0.1; each connection one at a time."""
    loop = asyncio.get_running_loop()
    latencies: list[float] = []
    statuses: Counter[str] = Counter()
    shared = iter(requests)
    started = time.perf_counter()
    connections = [
        (await loop.create_connection(lambda: _Connection(shared, latencies, statuses), "127.0.0.1", port))[1]
        for _ in range(clients)
    ]
    await asyncio.gather(*(connection.done for connection in connections))
    return LoadResult(time.perf_counter() - started, sorted(latencies), dict(statuses))


def post(path: str, body: bytes, key: str) -> bytes:
    """One POST with a JSON body and an Idempotency-Key, as bytes."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        f"idempotency-key: {key}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
