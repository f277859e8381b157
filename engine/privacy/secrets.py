"""The deployment's own secrets: pepper of the person keys, key of the references, key of the helpline.

Each is 32 random bytes in a file of its own, mode 0600, made at first use. A file is written aside and linked
to its name in one step: two processes that start at once read the same bytes, and nobody reads half a file.
Losing the pepper makes every person a stranger; losing the reference key makes every reference void.
"""

import os
import secrets
import stat
from pathlib import Path

import msgspec

SECRET_BYTES = 32
PEPPER_FILE = "person-key-pepper"
REFERENCE_KEY_FILE = "reference-key"
HELPLINE_KEY_FILE = "helpline-key"


class SecretError(Exception):
    """A secret's file cannot be used; the message names the file and what to do."""


class Secrets(msgspec.Struct, frozen=True):
    """What the engine needs to name people, to seal references and to know the helpline."""

    pepper: bytes
    reference_key: bytes
    helpline_key: bytes

    def __repr__(self) -> str:
        """Never shows the bytes: a representation ends up in logs."""
        return "Secrets(...)"


def open_secrets(folder: Path) -> Secrets:
    """Read the secrets, making those that are not there. Raises ``SecretError``."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        names = (PEPPER_FILE, REFERENCE_KEY_FILE, HELPLINE_KEY_FILE)
        return Secrets(*(_secret(folder / name) for name in names))
    except OSError as error:
        raise SecretError(
            f"{folder}: {error.strerror}; set DOSEBOOK_SECRETS_DIR to a folder of yours"
        ) from None


def _secret(path: Path) -> bytes:
    if not path.exists():
        _make(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise SecretError(f"{path} can be read by others: chmod 600 it, and consider the secret known")
    value = path.read_bytes()
    if len(value) != SECRET_BYTES:
        raise SecretError(f"{path} has {len(value)} bytes, not {SECRET_BYTES}: restore it from a backup")
    return value


def _make(path: Path) -> None:
    """Write a new secret aside and link it; whoever links first has made it."""
    aside = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(SECRET_BYTES))
            file.flush()
            os.fsync(file.fileno())
        path.hardlink_to(aside)
    except FileExistsError:
        return
    finally:
        aside.unlink()
