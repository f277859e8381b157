"""The campaign as its file states it: who may book what, from when, and how a course may be changed.

``config/france/campaign.toml`` teaches the format. Invariants of a loaded campaign: every name is unique in
its table, every vaccine, group and area that a rule names exists, every period has a day and every cohort can
admit somebody; areas are department codes, regions having been replaced by theirs. The first mistake raises
``CampaignError`` with the file, the place in it and the reason, and nothing of the file is used.
"""

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta

from engine.domain.course import Kind
from engine.limits import CHANGES_MAX, GROUPS_MAX, HOUSEHOLD_MAX
from engine.rules.tables import read_rows

KindName = Literal["primary", "booster"]
KIND_NAMES: dict[Kind, KindName] = {Kind.PRIMARY: "primary", Kind.BOOSTER: "booster"}

R = TypeVar("R")

_PLACE = re.compile(r" - at `\$\.?(.*)`$")
_POSITION = re.compile(r" \(at (.*)\)$")

Name = Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]{0,39}$")]
Age = Annotated[int, Meta(ge=0, le=120)]
Minutes = Annotated[int, Meta(ge=0, le=7 * 24 * 60)]


class CampaignError(ValueError):
    """The campaign's file cannot be used as it is: mend it at ``place``."""

    def __init__(self, source: str, place: str, reason: str) -> None:
        super().__init__(f"{source}, {place}: {reason}")
        self.source = source
        self.place = place
        self.reason = reason


class Group(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A group that people declare themselves. ``number`` is its bit wherever groups are packed, for ever."""

    code: Name
    number: Annotated[int, Meta(ge=0, lt=GROUPS_MAX)]
    label: Annotated[str, Meta(min_length=1)]
    one_dose: bool = False


class Cohort(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may book from ``since`` to ``until`` (days of booking, both included). Ages are of the dose's day.

    Empty ``areas``, ``groups``, ``vaccines``: everywhere, everybody, all; of ``groups`` one is enough.
    """

    name: Name
    since: date
    until: date | None = None
    areas: tuple[str, ...] = ()
    kinds: tuple[KindName, ...] = ("primary",)
    age_min: Age = 0
    age_max: Age | None = None
    groups: tuple[str, ...] = ()
    vaccines: tuple[str, ...] = ()


class Product(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who may have ``vaccine`` for these kinds of course, until the vaccine's next rule for the same kind.

    Its age limits do not count for who has declared one of the groups ``lifted_by``.
    """

    name: Name
    vaccine: str
    since: date
    kinds: tuple[KindName, ...] = ("primary",)
    age_min: Age = 0
    age_max: Age | None = None
    lifted_by: tuple[str, ...] = ()


class Booster(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From ``since`` on, a booster may follow the last dose after ``days_min`` days, for whom the rule fits.

    Of several rules that fit, the smallest delay counts. Empty ``groups`` and ``last_vaccines``: all.
    """

    name: Name
    since: date
    days_min: Annotated[int, Meta(ge=1, le=3660)]
    age_min: Age = 0
    groups: tuple[str, ...] = ()
    last_vaccines: tuple[str, ...] = ()


class Changes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How often a course may be changed, and until how long before a slot's own time."""

    changes_max: Annotated[int, Meta(ge=0, le=CHANGES_MAX)]
    move_cutoff_minutes: Minutes
    cancel_cutoff_minutes: Minutes


class Holds(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long seats are set aside, and how often the time may be extended."""

    ttl_seconds: Annotated[int, Meta(ge=1, le=3600)]
    extensions_max: Annotated[int, Meta(ge=0, le=5)]


class Households(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many book together, and within how many minutes their first doses begin."""

    members_max: Annotated[int, Meta(ge=1, le=HOUSEHOLD_MAX)]
    span_minutes: Minutes


class Waitlist(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long a freed seat is offered to one person."""

    offer_minutes: Annotated[int, Meta(ge=5, le=4 * 60)]


class Campaign(msgspec.Struct, frozen=True, forbid_unknown_fields=True, eq=False):
    """All rules of a campaign, but for the tables of vaccines and intervals (``engine.rules.intervals``).

    Equal to itself only: what is derived from a campaign is kept by it.
    """

    groups: Annotated[tuple[Group, ...], Meta(max_length=GROUPS_MAX)]
    cohorts: tuple[Cohort, ...]
    products: tuple[Product, ...]
    boosters: tuple[Booster, ...]
    changes: Changes
    holds: Holds
    households: Households
    waitlist: Waitlist
    territories: tuple[str, ...] = ()

    def one_dose_suffices(self, declared: Collection[str]) -> bool:
        """Whether who has declared these groups needs one dose of any vaccine."""
        return any(group.one_dose and group.code in declared for group in self.groups)

    def pack_groups(self, declared: Iterable[str]) -> int:
        """The declared groups as bits. Raises ``KeyError`` for a group that the campaign does not have."""
        numbers = {group.code: group.number for group in self.groups}
        return sum(1 << numbers[code] for code in set(declared))

    def unpack_groups(self, bits: int) -> tuple[str, ...]:
        """The codes of the bits, sorted. A bit of no group (one that the campaign dropped) is left out."""
        return tuple(sorted(group.code for group in self.groups if bits >> group.number & 1))


class _Named(Protocol):
    """Any rule with a name of its own."""

    @property
    def name(self) -> str: ...


_Mistake = tuple[str, str]
"""Where and why."""


def load_regions(path: Path) -> dict[str, str]:
    """Region names by department code, from ``departements.csv``; ``BadRowError`` as for any table."""
    rows = read_rows(path, ("departement", "nom_region"))
    return {row.filled("departement"): row.filled("nom_region") for row in rows}


def load_campaign(path: Path, vaccines: Iterable[str], regions: Mapping[str, str]) -> Campaign:
    """The campaign of the file; ``CampaignError`` for the first mistake in it."""
    return decode_campaign(path.read_bytes(), path.name, vaccines, regions)


def decode_campaign(
    text: bytes, source: str, vaccines: Iterable[str], regions: Mapping[str, str]
) -> Campaign:
    """The campaign of a TOML text. ``vaccines``: the codes there are; ``regions``: as ``load_regions``."""
    try:
        campaign = msgspec.convert(tomllib.loads(text.decode()), Campaign)
    except UnicodeDecodeError as error:
        raise CampaignError(source, f"byte {error.start}", "is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise CampaignError(source, *_split(_POSITION, str(error))) from None
    except msgspec.ValidationError as error:
        raise CampaignError(source, *_split(_PLACE, str(error))) from None
    departments = _departments_by_area(regions, campaign.territories)
    mistake = next(_mistakes(campaign, frozenset(vaccines), departments), None)
    if mistake is not None:
        raise CampaignError(source, *mistake)
    cohorts = tuple(_with_departments(cohort, departments) for cohort in campaign.cohorts)
    return msgspec.structs.replace(campaign, cohorts=cohorts)


def _split(place: re.Pattern[str], message: str) -> _Mistake:
    """The place that a decoder puts at the end of its message, and the rest of it."""
    found = place.search(message)
    return (found[1] or "top level", message[: found.start()]) if found else ("top level", message)


def _departments_by_area(
    regions: Mapping[str, str], territories: Iterable[str]
) -> dict[str, tuple[str, ...]]:
    """The department codes that an area stands for: itself, or those of the region of this name."""
    areas: dict[str, tuple[str, ...]] = {code: (code,) for code in (*regions, *territories)}
    for department, region in regions.items():
        areas[region] = (*areas.get(region, ()), department)
    return areas


def _with_departments(cohort: Cohort, departments: Mapping[str, tuple[str, ...]]) -> Cohort:
    areas = tuple(code for area in cohort.areas for code in departments[area])
    return msgspec.structs.replace(cohort, areas=areas)


def _mistakes(campaign: Campaign, vaccines: Collection[str], areas: Collection[str]) -> Iterator[_Mistake]:
    groups = frozenset(group.code for group in campaign.groups)
    yield from _twice("groups", "code", [group.code for group in campaign.groups])
    yield from _twice("groups", "number", [group.number for group in campaign.groups])
    for table, rules in _tables(campaign):
        yield from _twice(table, "name", [rule.name for rule in rules])
    for place, cohort in _placed("cohorts", campaign.cohorts):
        yield from _unknown(f"{place}.areas", "area", cohort.areas, areas)
        yield from _unknown(f"{place}.groups", "group", cohort.groups, groups)
        yield from _unknown(f"{place}.vaccines", "vaccine", cohort.vaccines, vaccines)
        yield from _no_period(place, cohort)
        yield from _empty_range(place, cohort)
    for place, product in _placed("products", campaign.products):
        yield from _unknown(f"{place}.vaccine", "vaccine", (product.vaccine,), vaccines)
        yield from _unknown(f"{place}.lifted_by", "group", product.lifted_by, groups)
        yield from _empty_range(place, product)
    yield from _same_start(campaign.products)
    for place, booster in _placed("boosters", campaign.boosters):
        yield from _unknown(f"{place}.groups", "group", booster.groups, groups)
        yield from _unknown(f"{place}.last_vaccines", "vaccine", booster.last_vaccines, vaccines)
    for place, cohort in _placed("cohorts", campaign.cohorts):
        if not any(_meet(cohort, product) for product in campaign.products):
            yield place, "the cohort admits nobody: no product is for its kinds, vaccines and ages"


def _tables(campaign: Campaign) -> tuple[tuple[str, Sequence[_Named]], ...]:
    return (
        ("cohorts", campaign.cohorts),
        ("products", campaign.products),
        ("boosters", campaign.boosters),
    )


def _placed(table: str, rules: Sequence[R]) -> Iterator[tuple[str, R]]:
    return ((f"{table}[{index}]", rule) for index, rule in enumerate(rules))


def _twice(table: str, key: str, values: Sequence[object]) -> Iterator[_Mistake]:
    for index, value in enumerate(values):
        if value in values[:index]:
            yield f"{table}[{index}].{key}", f"{value!r} is there twice"


def _unknown(place: str, what: str, named: Iterable[str], known: Collection[str]) -> Iterator[_Mistake]:
    for value in named:
        if value not in known:
            yield place, f"unknown {what} {value!r}"


def _empty_range(place: str, rule: Cohort | Product) -> Iterator[_Mistake]:
    if not rule.kinds:
        yield f"{place}.kinds", "is empty: the rule admits nobody"
    if rule.age_max is not None and rule.age_max < rule.age_min:
        yield f"{place}.age_max", f"{rule.age_max} is below age_min {rule.age_min}: the rule admits nobody"


def _no_period(place: str, cohort: Cohort) -> Iterator[_Mistake]:
    if cohort.until is not None and cohort.until < cohort.since:
        yield f"{place}.until", f"{cohort.until} is before since {cohort.since}"


def _meet(cohort: Cohort, product: Product) -> bool:
    """Whether somebody of the cohort could have the product, on some day."""
    if cohort.vaccines and product.vaccine not in cohort.vaccines:
        return False
    if not set(cohort.kinds) & set(product.kinds):
        return False
    lifted = bool(product.lifted_by) and (
        not cohort.groups or not set(cohort.groups).isdisjoint(product.lifted_by)
    )
    return lifted or (
        (product.age_max is None or cohort.age_min <= product.age_max)
        and (cohort.age_max is None or product.age_min <= cohort.age_max)
    )


def _same_start(products: Sequence[Product]) -> Iterator[_Mistake]:
    """Two rules of one vaccine and kind from one day: neither would be the later one."""
    seen: set[tuple[str, KindName, date]] = set()
    for place, product in _placed("products", products):
        for kind in product.kinds:
            start = product.vaccine, kind, product.since
            if start in seen:
                yield f"{place}.since", f"{product.vaccine!r} has two {kind} rules from {product.since}"
            seen.add(start)
