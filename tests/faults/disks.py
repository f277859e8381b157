"""Small disks that can run full: tmpfs mounts below the data directory.

They are made in a mount namespace of the harness alone (``apart``), so nothing stays mounted whatever becomes
of it; on the way out they are unmounted all the same, at once or as soon as nobody uses them.
"""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

REDIS_MB, POSTGRES_MB = 256, 640
# Postgres keeps few finished segments here, so that a full disk meets one that has to grow.
POSTGRES_SETTINGS = {"max_wal_size": "128MB", "min_wal_size": "32MB"}
POLL_S = 0.05
APART = "DOSEBOOK_FAULTS_APART"


def lacks() -> str:
    """Why no disk can be mounted here; empty if one can."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return "needs root on Linux, to mount small disks"
    done = subprocess.run(["unshare", "--mount", "true"], check=False, capture_output=True, text=True)
    return f"needs a mount namespace: {done.stderr.strip()}" if done.returncode else ""


def apart(arguments: list[str]) -> None:
    """Become the same program in a mount namespace of its own, once."""
    if APART in os.environ:
        return
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, *arguments]
    os.execvpe(command[0], command, {**os.environ, APART: "1"})  # noqa: S606  our own command, no shell


@contextmanager
def small_disks(data: Path) -> Iterator[None]:
    """The places of both stores on disks of their own; Postgres makes its folder anew, so it gets a link."""
    redis, postgres = disk_of(data, "redis"), disk_of(data, "postgres")
    mounted: list[Path] = []
    try:
        for place, megabytes in ((redis, REDIS_MB), (postgres, POSTGRES_MB)):
            place.mkdir()
            options = f"size={megabytes}m,mode=711"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "dosebook-faults", str(place)], check=True)
            mounted.append(place)
        (data / "postgres").symlink_to(postgres / "cluster")
        yield
    finally:
        for place in mounted:
            subprocess.run(["umount", "--lazy", str(place)], check=False)


def disk_of(data: Path, name: str) -> Path:
    """Where the disk of a store is mounted."""
    return data / "redis" if name == "redis" else data / "postgres-disk"


async def hold_full(disk: Path, seconds: float) -> None:
    """Take all room on a disk, again and again while some comes free; give it back at the end.

    Raises ``TimeoutError`` if there was room all the time.
    """
    filler = disk / "filler"
    until, was_full = time.monotonic() + seconds, False
    try:
        with filler.open("wb", buffering=0) as file:
            while time.monotonic() < until:
                await asyncio.to_thread(_fill, file.fileno())
                was_full = was_full or os.statvfs(disk).f_bavail == 0
                await asyncio.sleep(POLL_S)
    finally:
        filler.unlink()
    if not was_full:
        raise TimeoutError("(it never ran full)")


def _fill(file: int) -> None:
    """Write until there is no room."""
    for size in (1 << 20, 1 << 12):
        block = bytes(size)
        try:
            while os.write(file, block):
                pass
        except OSError:
            continue
