"""Distances on the globe, and the points nearest to a place.

The Earth is a sphere of 6,371.0088 km here (the error against the ellipsoid is below 0.6 %). Points are
kept sorted by latitude: the difference of latitude alone is a lower bound of the distance, so a band of
latitudes holds every point within a radius, at the poles and across the date line too.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import asin, cos, inf, radians, sin, sqrt
from typing import Generic, TypeVar

EARTH_RADIUS_KM = 6371.0088
_KM_PER_DEGREE = radians(1) * EARTH_RADIUS_KM
_FIRST_RADIUS_KM = 20.0
_BAND_MARGIN_DEGREES = 1e-9
_LONGEST_KM = EARTH_RADIUS_KM * 3.2

K = TypeVar("K")


def distance_km(lat1: float, lon1: float, lat2: float, lon2: float) -> float:
    """Great-circle distance of two places in degrees (haversine), in km."""
    phi1, phi2 = radians(lat1), radians(lat2)
    half_lat, half_lon = (phi2 - phi1) / 2, radians(lon2 - lon1) / 2
    root = sin(half_lat) ** 2 + cos(phi1) * cos(phi2) * sin(half_lon) ** 2
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(root)))


def _unit_vector(lat: float, lon: float) -> tuple[float, float, float]:
    phi, lam = radians(lat), radians(lon)
    return cos(phi) * cos(lam), cos(phi) * sin(lam), sin(phi)


def _chord_squared(km: float) -> float:
    """Square of the straight line between two points of the unit sphere that lie ``km`` apart."""
    half_angle = km / EARTH_RADIUS_KM / 2
    return inf if half_angle >= asin(1) else 4 * sin(half_angle) ** 2


def _arc_km(chord_squared: float) -> float:
    return 2 * EARTH_RADIUS_KM * asin(min(1.0, sqrt(chord_squared) / 2))


class NearestIndex(Generic[K]):
    """The points nearest to a place. ``points`` are ``(key, lat, lon)`` in degrees; keys may repeat."""

    def __init__(self, points: Iterable[tuple[K, float, float]]) -> None:
        by_latitude = sorted(enumerate(points), key=lambda item: item[1][1])
        self._keys = [key for _, (key, _, _) in by_latitude]
        self._latitudes = [lat for _, (_, lat, _) in by_latitude]
        self._vectors = [
            (*_unit_vector(lat, lon), order, position)
            for position, (order, (_, lat, lon)) in enumerate(by_latitude)
        ]

    def __len__(self) -> int:
        return len(self._keys)

    def nearest(
        self, lat: float, lon: float, n: int, radius_km: float = _LONGEST_KM
    ) -> list[tuple[K, float]]:
        """Up to ``n`` pairs ``(key, km)`` within ``radius_km``, nearest first.

        Points that are equally far come in the order in which they were given.
        """
        if n < 1:
            return []
        reach_km = min(_FIRST_RADIUS_KM, radius_km)
        while True:
            found = self._within(lat, lon, reach_km)
            if len(found) >= n or reach_km >= radius_km:
                break
            reach_km = min(reach_km * 2, radius_km)
        found.sort()
        return [(self._keys[position], _arc_km(chord)) for chord, _, position in found[:n]]

    def _within(self, lat: float, lon: float, reach_km: float) -> list[tuple[float, int, int]]:
        """``(squared chord, order given, position)`` of all points not farther than ``reach_km``."""
        reach_degrees = reach_km / _KM_PER_DEGREE + _BAND_MARGIN_DEGREES
        low = bisect_left(self._latitudes, lat - reach_degrees)
        high = bisect_right(self._latitudes, lat + reach_degrees)
        x, y, z = _unit_vector(lat, lon)
        limit = _chord_squared(reach_km)
        return [
            (chord, order, position)
            for px, py, pz, order, position in self._vectors[low:high]
            if (chord := (px - x) * (px - x) + (py - y) * (py - y) + (pz - z) * (pz - z)) <= limit
        ]
