"""The clock of Redis' host, in our hands: libfaketime reads from a file by how much it is wrong."""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from engine.redis.connection import connect

LIBRARY = "libfaketime.so.1"
FOLDERS = ("/usr/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime", "/usr/local/lib/faketime")
OFFSET_S_MAX = 60.0
SEEN_S_MAX, NEAR_S = 5.0, 1.5
POLL_S = 0.02


def library() -> Path | None:
    """Where Debian and others put it."""
    found = (path for folder in FOLDERS for path in Path("/").glob(f"{folder[1:]}/{LIBRARY}"))
    return next(found, None)


def lacks() -> str:
    """Why no clock can be stepped here; empty if one can."""
    return "" if sys.platform == "linux" and library() else "needs faketime"


class Clock:
    """The offset file, and the environment that makes a server obey it."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset_s = 0.0
        self._write()

    @property
    def environment(self) -> dict[str, str]:
        """For the server. Its monotonic clock stays true, as it does when a host's clock is set."""
        return {
            "LD_PRELOAD": str(library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    async def step(self, seconds: float, redis_url: str) -> None:
        """Set the clock on or back, and see that Redis goes by it. Raises ``TimeoutError`` if not."""
        self._offset_s = max(-OFFSET_S_MAX, min(self._offset_s + seconds, OFFSET_S_MAX))
        self._write()
        client: Any = connect(redis_url, connections=1)
        try:
            async with asyncio.timeout(SEEN_S_MAX):
                while abs(await _ahead_s(client) - self._offset_s) > NEAR_S:
                    await asyncio.sleep(POLL_S)
        finally:
            await client.aclose()

    def _write(self) -> None:
        new = self._file.with_suffix(".new")
        new.write_text(f"{self._offset_s:+.3f}s\n")
        new.rename(self._file)


async def _ahead_s(client: Any) -> float:
    seconds, micros = await client.time()
    return float(int(seconds) + int(micros) / 1e6 - time.time())
