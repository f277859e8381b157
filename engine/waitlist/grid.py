"""The grid that finds the circles which cover a place without looking at all of them. Pure.

Level n cuts 360 degrees into 2^n cells a side, from one cell to some ten km (level 12). A circle is entered
at the finest level at which it touches at most three by three cells; a place is looked up in its one cell of
every level. So a circle that covers the place is found exactly once, and what else is found is near. At most
nine rows for an entry, 13 look-ups for a place. Meridians meet at the poles and at the date line: columns
wrap, and a circle around a pole is in all columns of its rows.
"""

from math import asin, cos, degrees, floor, radians, sin

from engine.domain.geo import EARTH_RADIUS_KM

LEVEL_MAX = 12
_ALERT = 1 << 30
_MARGIN_DEGREES = 1e-9


def cells_at(lat: float, lon: float, *, alert: bool = False) -> tuple[int, ...]:
    """The cells that a place is in, one of each level. Alerts have cells of their own."""
    return tuple(
        _cell(level, *_row_and_column(level, lat, lon), alert=alert) for level in range(LEVEL_MAX + 1)
    )


def cells_covering(lat: float, lon: float, radius_km: float, *, alert: bool = False) -> tuple[int, ...]:
    """The cells that a circle is entered in: all that it touches, of one level."""
    half_lat, half_lon = _half_spans(lat, radius_km)
    level = _level_of(2 * max(half_lat, half_lon))
    rows = _span(level, lat + 90, half_lat)
    columns = _span(level, lon + 180, half_lon)
    found = {
        _cell(level, row, column % 2**level, alert=alert) for row in rows if row >= 0 for column in columns
    }
    return tuple(sorted(found))


def _half_spans(lat: float, radius_km: float) -> tuple[float, float]:
    """Degrees that the circle reaches to the north and south, and to the east and west."""
    angle = radius_km / EARTH_RADIUS_KM
    if abs(radians(lat)) + angle >= radians(90):
        return degrees(angle) + _MARGIN_DEGREES, 180.0
    return degrees(angle) + _MARGIN_DEGREES, degrees(asin(sin(angle) / cos(radians(lat)))) + _MARGIN_DEGREES


def _level_of(span: float) -> int:
    """The finest level whose cells are at least half as wide."""
    level = 0
    while level < LEVEL_MAX and 360 / 2 ** (level + 1) >= span / 2:
        level += 1
    return level


def _span(level: int, middle: float, half: float) -> range:
    low, high = (floor((middle + sign * half) * 2**level / 360) for sign in (-1, 1))
    return range(low, high + 1)


def _row_and_column(level: int, lat: float, lon: float) -> tuple[int, int]:
    row, column = floor((lat + 90) * 2**level / 360), floor((lon + 180) * 2**level / 360)
    return row, column % 2**level


def _cell(level: int, row: int, column: int, *, alert: bool) -> int:
    return (_ALERT if alert else 0) | level << 24 | row << 12 | column
