"""What rules know of a person, as references carry it: days since 1900-01-01, and groups as bits."""

from datetime import date, timedelta
from typing import NamedTuple

from engine.domain.person import Facts
from engine.rules.campaign import Campaign

EARLIEST = date(1900, 1, 1)


class Known(NamedTuple):
    """The two numbers."""

    born: int
    groups: int


def pack_facts(facts: Facts, campaign: Campaign) -> Known:
    """The numbers. Raises ``KeyError`` for a group that the campaign does not have."""
    return Known((facts.birth_date - EARLIEST).days, campaign.pack_groups(facts.groups))


def facts_of(known: Known, campaign: Campaign) -> Facts:
    """What the numbers say under this campaign."""
    return Facts(EARLIEST + timedelta(days=known.born), campaign.unpack_groups(known.groups))
