"""Between the engine and Redis: forwards everything, and on command eats the replies of executed scripts.

While ``lose`` runs, a reply to a connection that has called a script is not delivered: the connection is
dropped instead, after Redis has executed the call. All else (pings, reads, the handshake) passes.
"""

import asyncio
from pathlib import Path

CALL = b"dosebook_step"
CHUNK_BYTES = 1 << 16


class Proxy:
    """Listens on ``path`` and leads to the socket ``target``."""

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.lost = 0
        self._target = target
        self._losing = False
        self._open: set[asyncio.StreamWriter] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *error: object) -> None:
        self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def lose(self, seconds: float) -> None:
        """Lose the replies of scripts for a while."""
        self._losing = True
        try:
            await asyncio.sleep(seconds)
        finally:
            self._losing = False

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._serving.add(task)
            task.add_done_callback(self._serving.discard)
        self._open.add(writer)
        try:
            redis_reader, redis_writer = await asyncio.open_unix_connection(self._target)
        except OSError:
            return self._drop(writer)
        self._open.add(redis_writer)
        link = _Link(self, reader, writer, redis_reader, redis_writer)
        try:
            await link.run()
        finally:
            self._drop(writer)
            self._drop(redis_writer)

    def _drop(self, writer: asyncio.StreamWriter) -> None:
        self._open.discard(writer)
        writer.transport.abort()

    def eats(self, *, has_called: bool) -> bool:
        """Whether the reply that came is to be lost; counted."""
        eaten = self._losing and has_called
        self.lost += eaten
        return eaten


class _Link:
    """One connection and its other half; ends when either end does."""

    def __init__(
        self,
        proxy: Proxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        redis_reader: asyncio.StreamReader,
        redis_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._client = reader, writer
        self._redis = redis_reader, redis_writer
        self._has_called = False

    async def run(self) -> None:
        ways = {asyncio.create_task(self._requests()), asyncio.create_task(self._replies())}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _requests(self) -> None:
        while data := await self._client[0].read(CHUNK_BYTES):
            self._has_called = self._has_called or CALL in data
            self._redis[1].write(data)
            await self._redis[1].drain()

    async def _replies(self) -> None:
        while data := await self._redis[0].read(CHUNK_BYTES):
            if self._proxy.eats(has_called=self._has_called):
                return
            self._client[1].write(data)
            await self._client[1].drain()
