"""strace between a store and its disk: slows its fdatasync, or lets it fail once."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

CALLS = "fdatasync,fsync"
ATTACHED_S_MAX, FAILED_S_MAX, DETACHED_S_MAX = 10.0, 15.0, 5.0
POLL_S = 0.01
YAMA = Path("/proc/sys/kernel/yama/ptrace_scope")


def lacks() -> str:
    """Why nothing can be traced here; empty if it can."""
    if sys.platform != "linux" or shutil.which("strace") is None:
        return "needs strace"
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True)
    if tried.returncode:
        return "needs leave to trace processes"
    if os.geteuid() != 0 and YAMA.exists() and YAMA.read_text().strip() != "0":
        return "needs root, to trace the stores"
    return ""


async def slow(pids: Sequence[int], delay_ms: int, seconds: float) -> None:
    """Each fdatasync takes ``delay_ms`` longer, for a while."""
    async with _strace(pids, f"delay_exit={delay_ms * 1000}", "-f"):
        await asyncio.sleep(seconds)


async def fail_once(pids: Sequence[int]) -> None:
    """The next fdatasync fails with EIO. Raises ``TimeoutError`` if there is none."""
    # Without -f: what is started to recover from the failure is not struck.
    async with _strace(pids, "error=EIO:when=1") as told:
        deadline = time.monotonic() + FAILED_S_MAX
        while b"EIO" not in await asyncio.to_thread(told.read_bytes):
            if time.monotonic() > deadline:
                raise TimeoutError("(no fdatasync to fail)")
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def _strace(pids: Sequence[int], what: str, *more: str) -> AsyncIterator[Path]:
    """Attached to the processes; what it writes down."""
    with tempfile.NamedTemporaryFile(prefix="dosebook-strace-") as told:
        options = ["-e", f"trace={CALLS}", "-e", f"inject={CALLS}:{what}", "-o", told.name, *more]
        which = [part for pid in pids for part in ("-p", str(pid))]
        strace = await asyncio.create_subprocess_exec(
            "strace", *options, *which, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await _attached(strace, pids, Path(told.name))
            yield Path(told.name)
        finally:
            await _detached(strace)


async def _attached(strace: asyncio.subprocess.Process, pids: Sequence[int], told: Path) -> None:
    """Wait until all are traced, or one is gone already by what was done to it."""
    deadline = time.monotonic() + ATTACHED_S_MAX
    while not all(_is_traced(pid) for pid in pids):
        if strace.returncode is not None or time.monotonic() > deadline:
            if await asyncio.to_thread(told.read_bytes):
                return
            raise TimeoutError("(strace could not attach)")
        await asyncio.sleep(POLL_S)


async def _detached(strace: asyncio.subprocess.Process) -> None:
    """It lets go of its processes when it is interrupted, and also when it is killed."""
    for number in (signal.SIGINT, signal.SIGKILL):
        if strace.returncode is None:
            strace.send_signal(number)
        try:
            await asyncio.wait_for(strace.wait(), DETACHED_S_MAX)
        except TimeoutError:
            continue
        return


def _is_traced(pid: int) -> bool:
    """Whether somebody traces the process, or it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    return "\nTracerPid:\t0\n" not in status
