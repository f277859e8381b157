"""The register of vaccination centres: locations and their weekly opening hours.

Invariants: locations are numbered 1..n in the order of the register's own key; intervals of a day are in
order, do not overlap and end after they begin. A row that cannot be read raises ``BadRowError`` with its
line and column, and nothing of the file is used. Rows that are not selected are not looked at further.
"""

import re
from itertools import pairwise
from pathlib import Path

import msgspec

from engine.domain.capacity import Location
from engine.rules.tables import BadRowError, Row, read_rows

__all__ = ["BadRowError", "Hours", "Register", "Week", "load_register", "parse_hours", "zone_of"]

Hours = tuple[tuple[int, int], ...]
"""Opening intervals of a day, in minutes after local midnight; ``()`` is closed."""

Week = tuple[Hours | None, ...]
"""Monday to Sunday; ``None`` where the register does not know the hours of the day."""

_WEEKDAYS = ("lun", "mar", "mer", "jeu", "ven", "sam", "dim")
_COLUMNS = (
    *("gid", "nom", "adresse", "code_postal", "commune", "departement", "region", "lat", "lon", "selection"),
    *_WEEKDAYS,
)
_GID_MAX = 10_000_000
_MINUTES_PER_DAY = 24 * 60
_INTERVAL = re.compile(r"(\d\d):([0-5]\d)-(\d\d):([0-5]\d)", re.ASCII)

_ZONES = {
    "971": "America/Guadeloupe",
    "972": "America/Martinique",
    "973": "America/Cayenne",
    "974": "Indian/Reunion",
    "975": "America/Miquelon",
    "976": "Indian/Mayotte",
    "977": "America/St_Barthelemy",
    "978": "America/Marigot",
    "986": "Pacific/Wallis",
    "987": "Pacific/Tahiti",
    "988": "Pacific/Noumea",
}


class Register(msgspec.Struct, frozen=True):
    """The selected locations in the order of their ids, and the hours of each by location id."""

    locations: tuple[Location, ...]
    weeks: dict[int, Week]


def zone_of(department: str) -> str:
    """IANA time zone of a department or overseas territory."""
    return _ZONES.get(department, "Europe/Paris")


def parse_hours(text: str) -> Hours | None:
    """``"09:00-13:00,14:00-18:00"`` as intervals, ``"ferme"`` as ``()``, ``""`` as ``None``.

    ``24:00`` may close a day. Raises ``ValueError`` with the reason.
    """
    if not text:
        return None
    if text == "ferme":
        return ()
    intervals = tuple(_interval(part) for part in text.split(","))
    for (_, closes), (opens, _) in pairwise(intervals):
        if opens < closes:
            raise ValueError(f"{text!r}: intervals overlap or are out of order")
    return intervals


def _interval(text: str) -> tuple[int, int]:
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not HH:MM-HH:MM")
    hour_1, minute_1, hour_2, minute_2 = map(int, match.groups())
    opens, closes = hour_1 * 60 + minute_1, hour_2 * 60 + minute_2
    if closes > _MINUTES_PER_DAY:
        raise ValueError(f"{text!r} ends after 24:00")
    if closes <= opens:
        raise ValueError(f"{text!r} ends before it begins")
    return opens, closes


def load_register(path: Path) -> Register:
    """The rows of ``centres.csv`` with ``selection = t``; ``BadRowError`` for one that cannot be read."""
    seen: set[int] = set()
    rows: dict[int, Row] = {}
    for row in read_rows(path, _COLUMNS):
        gid = row.integer("gid", 1, _GID_MAX)
        if gid in seen:
            raise row.bad("gid", f"{gid} is there twice")
        seen.add(gid)
        if row.flag("selection"):
            rows[gid] = row
    locations = tuple(_location(number, rows[gid]) for number, gid in enumerate(sorted(rows), start=1))
    return Register(
        locations=locations,
        weeks={location.id: _week(rows[int(location.register_id)]) for location in locations},
    )


def _location(number: int, row: Row) -> Location:
    postcode = row.filled("code_postal")
    if len(postcode) != 5 or not postcode.isdigit():
        raise row.bad("code_postal", f"{postcode!r} is not five digits")
    department = row.filled("departement")
    return Location(
        id=number,
        register_id=str(row.integer("gid", 1, _GID_MAX)),
        name=row.filled("nom"),
        address=row.text("adresse"),
        postcode=postcode,
        municipality=row.filled("commune"),
        department=department,
        region=row.text("region"),
        lat=row.number("lat", -90, 90),
        lon=row.number("lon", -180, 180),
        zone=zone_of(department),
    )


def _week(row: Row) -> Week:
    return tuple(_day(row, column) for column in _WEEKDAYS)


def _day(row: Row, column: str) -> Hours | None:
    try:
        return parse_hours(row.text(column))
    except ValueError as error:
        raise row.bad(column, str(error)) from None
