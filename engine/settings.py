"""What a deployment sets, read from the environment once, at the composition root."""

import os
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import msgspec

from engine.limits import PARTITIONS_MAX

REPLICAS_MAX = 9


class Acknowledge(StrEnum):
    """When a booking is told to the citizen (``engine/booking/PROTOCOL.md``, "What a 201 promises")."""

    FSYNC = "fsync"
    REPLICA = "replica"
    POSTGRES = "postgres"


class SettingError(Exception):
    """A setting is missing or wrong; the message says which and what to do."""


class Settings(msgspec.Struct, frozen=True):
    """Where the stores are, how many partitions there are, and where the deployment's own files lie.

    ``secrets_dir`` holds the pepper of person keys and the key of signed references, made at first use.
    ``replicas`` of each Redis must have a booking before it is told, with the policy ``replica``.
    ``campaign`` is the file of the campaign's rules, None for France's.
    """

    redis_url: str
    database_url: str
    secrets_dir: Path
    partitions: int = 1
    acknowledge: Acknowledge = Acknowledge.FSYNC
    replicas: int = 0
    france_dir: Path = Path(__file__).parent.parent / "config" / "france"
    campaign: Path | None = None

    @property
    def campaign_file(self) -> Path:
        """Where the campaign's rules are."""
        return self.campaign or self.france_dir / "campaign.toml"


def from_environment(environment: Mapping[str, str] = os.environ) -> Settings:
    """Read ``REDIS_URL``, ``DATABASE_URL`` and the variables that begin with ``DOSEBOOK_``.

    They are ``_SECRETS_DIR``, ``_PARTITIONS`` (1), ``_ACKNOWLEDGE`` (fsync), ``_REPLICAS`` (1 with the policy
    ``replica``) and ``_CAMPAIGN`` (France's). Raises ``SettingError`` for a missing or impossible one.
    """
    acknowledge = _acknowledge(environment.get("DOSEBOOK_ACKNOWLEDGE", Acknowledge.FSYNC))
    fewest = int(acknowledge is Acknowledge.REPLICA)
    return Settings(
        redis_url=_required(environment, "REDIS_URL"),
        database_url=_required(environment, "DATABASE_URL"),
        secrets_dir=Path(_required(environment, "DOSEBOOK_SECRETS_DIR")),
        partitions=_number(environment, "DOSEBOOK_PARTITIONS", 1, 1, PARTITIONS_MAX),
        acknowledge=acknowledge,
        replicas=_number(environment, "DOSEBOOK_REPLICAS", fewest, fewest, REPLICAS_MAX),
        campaign=_campaign(environment.get("DOSEBOOK_CAMPAIGN", "")),
    )


def replicas_of(settings: Settings) -> int:
    """How many replicas must have something before it counts; 0 unless the policy is ``replica``."""
    return settings.replicas if settings.acknowledge is Acknowledge.REPLICA else 0


def to_environment(settings: Settings) -> dict[str, str]:
    """The variables from which a process reads these settings."""
    campaign = {} if settings.campaign is None else {"DOSEBOOK_CAMPAIGN": str(settings.campaign)}
    return campaign | {
        "REDIS_URL": settings.redis_url,
        "DATABASE_URL": settings.database_url,
        "DOSEBOOK_SECRETS_DIR": str(settings.secrets_dir),
        "DOSEBOOK_PARTITIONS": str(settings.partitions),
        "DOSEBOOK_ACKNOWLEDGE": settings.acknowledge.value,
        "DOSEBOOK_REPLICAS": str(settings.replicas),
    }


def _acknowledge(name: str) -> Acknowledge:
    try:
        return Acknowledge(name)
    except ValueError:
        raise SettingError(f"DOSEBOOK_ACKNOWLEDGE is {name!r}: set fsync, replica or postgres") from None


def _campaign(name: str) -> Path | None:
    if name and not Path(name).is_file():
        raise SettingError(
            f"DOSEBOOK_CAMPAIGN is {name!r}: there is no such file; unset it for France's rules"
        )
    return Path(name) if name else None


def _number(environment: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    text = environment.get(name, str(default))
    if not text.isdecimal() or not least <= int(text) <= most:
        raise SettingError(f"{name} is {text!r}: set a number from {least} to {most}")
    return int(text)


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name)
    if not value:
        raise SettingError(f"{name} is not set: set it, or use ./dosebook run, which starts its own servers")
    return value
