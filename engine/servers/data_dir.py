"""Where children keep files: data, logs and sockets, in one directory named by the operator or temporary.

Invariants: a temporary directory is removed at the end; one named by the operator never is. Socket paths
stay below the 104 bytes that every system accepts, in `run/` of the directory or, where that is too long,
in a folder of our own below /tmp whose name follows from the directory (so a restart finds it again).
"""

import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from engine.servers.errors import DataDirError

SOCKET_PATH_BYTES_MAX = 103
LONGEST_SOCKET_NAME = "postgres-00/.s.PGSQL.65535"
LOCK_POLL_S = 0.02
# Sockets and data of servers that run under another account lie below: it may pass through, not list.
PASS_THROUGH = 0o711


class DataDir:
    """One directory for all children of a run. Use as a context manager: leaving removes a temporary one."""

    def __init__(self, path: Path, *, temporary: bool) -> None:
        self.path = path
        self.temporary = temporary
        self.run_dir = self._make_run_dir()

    @classmethod
    def open(cls, path: Path | None = None) -> Self:
        """Directory of the operator (made if absent), or a temporary one if `path` is None."""
        if path is None:
            return cls.make_temporary()
        try:
            path.mkdir(mode=PASS_THROUGH, parents=True, exist_ok=True)
            return cls(path.resolve(), temporary=False)
        except OSError as error:
            raise DataDirError(f"cannot use {path} ({error.strerror}): choose another --data-dir") from error

    @classmethod
    def make_temporary(cls) -> Self:
        """A new directory, removed by `remove`."""
        path = Path(tempfile.mkdtemp(prefix="dosebook-")).resolve()
        path.chmod(PASS_THROUGH)
        return cls(path, temporary=True)

    def log_of(self, name: str) -> Path:
        """Log file of a child."""
        folder = self.path / "log"
        folder.mkdir(exist_ok=True)
        return folder / f"{name}.log"

    def claim(self, name: str, wait_s_max: float) -> int:
        """Take the lock of server `name`; returns the descriptor to hand to the server process.

        The server and its own children inherit the lock, so the kernel frees it with the last of them,
        however they end: what holds it is alive, what left only files behind is dead.
        """
        descriptor = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s_max
        while not _locked(descriptor):
            if time.monotonic() > deadline:
                os.close(descriptor)
                raise DataDirError(
                    f"{self.path} is in use by a running {name}: stop that run or choose another --data-dir"
                )
            time.sleep(LOCK_POLL_S)
        return descriptor

    def remove(self) -> None:
        """Remove a temporary directory. One named by the operator stays: another run may live there."""
        for place in self.to_remove():
            shutil.rmtree(place, ignore_errors=True)

    def to_remove(self) -> list[Path]:
        """What goes when the run ends: a temporary directory, its sockets, and where its links point to."""
        if not self.temporary:
            return []
        links = [path.resolve() for path in self.path.iterdir() if path.is_symlink()] if self.exists() else []
        return [*links, self.run_dir, self.path]

    def exists(self) -> bool:
        """Whether the directory is still there."""
        return self.path.is_dir()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def _make_run_dir(self) -> Path:
        inside = self.path / "run"
        place = inside if _fits(inside) else self._short_run_dir()
        place.mkdir(mode=PASS_THROUGH, exist_ok=True)
        if place.stat().st_uid != os.geteuid():
            raise DataDirError(f"{place} belongs to another user: remove it or choose another --data-dir")
        place.chmod(PASS_THROUGH)
        return place

    def _short_run_dir(self) -> Path:
        digest = hashlib.sha256(os.fsencode(self.path)).hexdigest()[:12]
        return Path(f"/tmp/dosebook-{os.geteuid()}-{digest}")  # noqa: S108  owner and mode are checked


def _fits(run_dir: Path) -> bool:
    """Whether the longest socket path below is short enough, and other accounts can get there."""
    short = len(os.fsencode(run_dir / LONGEST_SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX
    return short and (os.geteuid() != 0 or reachable_by_all(run_dir.parent))


def reachable_by_all(place: Path) -> bool:
    """Whether any account may pass through every folder down to `place`."""
    place = place.resolve()
    folders = [folder for folder in (place, *place.parents) if folder.is_dir()]
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in folders)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
