"""The client of the load tests against a real server on loopback that answers from a script."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from loadtests.http import Client, NoAnswer, NotLoopback

pytestmark = pytest.mark.anyio

Answer = Callable[[bytes, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """Counts connections and requests; `answer` writes what it likes, once per request."""

    def __init__(self, answer: Answer) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self._answer = answer
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while not writer.is_closing():
                self.requests.append(await self._read(reader))
                await self._answer(self.requests[-1], writer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        return head + await reader.readexactly(int(length or b"0"))


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[Server]:
    server = Server(answer)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        await asyncio.sleep(0)


@asynccontextmanager
async def client_of(server: Server, **settings: float) -> AsyncIterator[Client]:
    client = Client(
        server.url,
        connections_max=int(settings.get("connections_max", 4)),
        deadline_s=settings.get("deadline_s", 5.0),
    )
    try:
        yield client
    finally:
        await client.close()
        await asyncio.sleep(0.01)


async def _ok(request: bytes, writer: asyncio.StreamWriter) -> None:
    writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 7\r\nRetry-After: 3\r\n\r\n{"a":1}')


async def test_requests_in_a_row_share_one_connection() -> None:
    async with serving(_ok) as server, client_of(server) as client:
        replies = [await client.request(b"GET", "/x") for _ in range(5)]
        assert {reply.status for reply in replies} == {200}
        assert replies[0].body == b'{"a":1}'
        assert replies[0].retry_after_s == 3
        assert server.connections == client.connected == 1


async def test_a_write_carries_its_body_and_key() -> None:
    async with serving(_ok) as server, client_of(server) as client:
        await client.request(b"POST", "/v1/x", b'{"a":1}', "key-1")
        assert b"idempotency-key: key-1\r\n" in server.requests[0]
        assert b"content-type: application/json\r\n" in server.requests[0]


async def test_chunks_are_put_together() -> None:
    async def chunks(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\nLocation: /v1/operations/1\r\n\r\n"
        )
        for chunk in (b"4\r\nabcd\r\n", b"2\r\nef\r\n", b"0\r\n\r\n"):
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0.005)

    async with serving(chunks) as server, client_of(server) as client:
        for _ in range(2):
            reply = await client.request(b"GET", "/")
            assert (reply.status, reply.body, reply.location) == (202, b"abcdef", "/v1/operations/1")
        assert server.connections == 1


async def test_no_answer_by_the_deadline_and_the_late_one_reaches_nobody() -> None:
    async def slow_first(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/slow" in request:
            await asyncio.sleep(0.3)
        await _ok(request, writer)

    async with serving(slow_first) as server, client_of(server, deadline_s=0.1) as client:
        with pytest.raises(NoAnswer, match="deadline"):
            await client.request(b"GET", "/slow")
        assert (await client.request(b"GET", "/fast")).status == 200
        assert server.connections == 2


async def test_a_cancelled_request_leaves_no_reply_behind() -> None:
    async def echo(request: bytes, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.05)
        path = request.split()[1]
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(path), path))

    async with serving(echo) as server, client_of(server, connections_max=1) as client:
        await client.request(b"GET", "/0")
        first = asyncio.create_task(client.request(b"GET", "/1"))
        await asyncio.sleep(0.01)
        first.cancel()
        assert (await client.request(b"GET", "/2")).body == b"/2"
        assert first.cancelled()


async def test_it_connects_again_after_the_server_closed_a_resting_connection() -> None:
    async def once(request: bytes, writer: asyncio.StreamWriter) -> None:
        await _ok(request, writer)
        writer.close()

    async with serving(once) as server, client_of(server) as client:
        for _ in range(3):
            assert (await client.request(b"GET", "/")).status == 200
            await asyncio.sleep(0.01)
        assert server.connections == 3


async def test_a_request_on_a_connection_that_had_just_been_closed_is_sent_once_more() -> None:
    async def drops_the_second(request: bytes, writer: asyncio.StreamWriter) -> None:
        if b"/second" in request and len(server.requests) == 2:
            writer.close()
        else:
            await _ok(request, writer)

    async with serving(drops_the_second) as server, client_of(server) as client:
        await client.request(b"GET", "/first")
        assert (await client.request(b"GET", "/second")).status == 200
        assert len(server.requests) == 3


async def test_a_connection_that_breaks_at_once_is_no_answer() -> None:
    async def drop(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with serving(drop) as server, client_of(server) as client:
        with pytest.raises(NoAnswer, match="closed"):
            await client.request(b"GET", "/")


async def test_what_is_not_http_is_no_answer() -> None:
    async def nonsense(request: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello there\r\n\r\n")

    async with serving(nonsense) as server, client_of(server) as client:
        with pytest.raises(NoAnswer, match="not HTTP"):
            await client.request(b"GET", "/")


async def test_nobody_listening_is_no_answer() -> None:
    async with serving(_ok) as server:
        url = server.url
    with pytest.raises(NoAnswer, match="no connection"):
        await Client(url).request(b"GET", "/")


async def test_connections_are_bounded_and_the_others_wait() -> None:
    async with serving(_ok) as server, client_of(server, connections_max=2) as client:
        replies = await asyncio.gather(*(client.request(b"GET", "/") for _ in range(50)))
        assert len(replies) == 50
        assert server.connections <= 2


@pytest.mark.parametrize(
    "url",
    ["http://192.0.2.1:80", "http://example.org", "https://127.0.0.1", "http://0.0.0.0:1", "127.0.0.1:80"],
)
def test_other_addresses_than_loopback_are_refused(url: str) -> None:
    with pytest.raises(NotLoopback):
        Client(url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8000", "http://localhost:8000", "http://[::1]:8000"])
def test_loopback_is_taken(url: str) -> None:
    Client(url)
