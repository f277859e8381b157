"""What a deployment sets, read from the environment once, at the composition root."""

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

PARTITIONS_MAX = 100


class SettingError(Exception):
    """A setting is missing or wrong; the message says which and what to do."""


class Settings(msgspec.Struct, frozen=True):
    """Where the stores are, how many partitions there are, and where the deployment's own files lie.

    ``secrets_dir`` holds the pepper of person keys and the key of signed references, made at first use.
    """

    redis_url: str
    database_url: str
    secrets_dir: Path
    partitions: int = 1
    france_dir: Path = Path(__file__).parent.parent / "config" / "france"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``REDIS_URL``, ``DATABASE_URL``, ``DOSEBOOK_SECRETS_DIR``, ``DOSEBOOK_PARTITIONS``.

    Raises ``SettingError`` for a missing or impossible one.
    """
    partitions = environment.get("DOSEBOOK_PARTITIONS", "1")
    if not partitions.isdecimal() or not 1 <= int(partitions) <= PARTITIONS_MAX:
        raise SettingError(f"DOSEBOOK_PARTITIONS is {partitions!r}: set a number from 1 to {PARTITIONS_MAX}")
    return Settings(
        redis_url=_required(environment, "REDIS_URL"),
        database_url=_required(environment, "DATABASE_URL"),
        secrets_dir=Path(_required(environment, "DOSEBOOK_SECRETS_DIR")),
        partitions=int(partitions),
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingError(f"{name} is not set: set it, or use ./dosebook run, which starts its own servers")
    return value
