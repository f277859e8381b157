"""Distances and nearest points, against known distances and a plain scan of all points."""

import time
from pathlib import Path
from random import Random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.capacity.register import load_register
from engine.domain.geo import EARTH_RADIUS_KM, NearestIndex, distance_km

CENTRES = Path(__file__).parents[2] / "config" / "france" / "centres.csv"
TOLERANCE_KM = 1e-3
HALF_WAY_ROUND_KM = 3.141592653589793 * EARTH_RADIUS_KM


@pytest.mark.parametrize(
    ("place_1", "place_2", "km"),
    [
        ((48.8566, 2.3522), (43.2965, 5.3698), 660.5),  # Paris, Marseille
        ((48.8566, 2.3522), (-20.8789, 55.4481), 9362.0),  # Paris, Saint-Denis (Réunion)
        ((0.0, 179.5), (0.0, -179.5), 111.195),  # across the date line
        ((90.0, 0.0), (90.0, 135.0), 0.0),  # a pole is one place
        ((0.0, 0.0), (0.0, 180.0), HALF_WAY_ROUND_KM),
        ((45.0, 5.0), (45.0, 5.0), 0.0),
    ],
)
def test_known_distances(place_1: tuple[float, float], place_2: tuple[float, float], km: float) -> None:
    assert distance_km(*place_1, *place_2) == pytest.approx(km, rel=2e-3, abs=TOLERANCE_KM)
    assert distance_km(*place_2, *place_1) == pytest.approx(distance_km(*place_1, *place_2))


places = st.tuples(st.floats(-90, 90), st.floats(-180, 180))
clusters = st.tuples(st.floats(43, 43.5), st.floats(5, 5.5))


@given(
    points=st.lists(st.one_of(places, clusters), max_size=60),
    place=st.one_of(places, clusters),
    n=st.integers(0, 40),
    radius_km=st.one_of(st.floats(0, 21_000), st.floats(0, 80)),
)
def test_nearest_agrees_with_a_scan_of_all_points(
    points: list[tuple[float, float]], place: tuple[float, float], n: int, radius_km: float
) -> None:
    index = NearestIndex((number, lat, lon) for number, (lat, lon) in enumerate(points))
    found = index.nearest(*place, n, radius_km)
    distances = sorted(distance_km(*place, *point) for point in points)
    surely_inside = [km for km in distances if km <= radius_km - TOLERANCE_KM][:n]
    perhaps_inside = [km for km in distances if km <= radius_km + TOLERANCE_KM][:n]
    assert len(surely_inside) <= len(found) <= len(perhaps_inside)
    assert len({key for key, _ in found}) == len(found)
    for (key, km), expected in zip(found, distances, strict=False):
        assert km == pytest.approx(expected, abs=TOLERANCE_KM)
        assert km == pytest.approx(distance_km(*place, *points[key]), abs=TOLERANCE_KM)


def test_no_radius_reaches_round_the_globe() -> None:
    index = NearestIndex([("here", 12.0, 34.0), ("antipode", -12.0, -146.0)])
    assert [key for key, _ in index.nearest(12.0, 34.0, 5)] == ["here", "antipode"]


def test_search_goes_on_until_the_last_of_n_is_found() -> None:
    index = NearestIndex([("far", 49.0, 2.0), ("near", 48.1, 2.0), ("farther", 51.0, 2.0)])
    assert [key for key, _ in index.nearest(48.0, 2.0, 2)] == ["near", "far"]
    assert [key for key, _ in index.nearest(48.0, 2.0, 3, radius_km=200)] == ["near", "far"]


def test_equally_far_points_come_in_the_order_given() -> None:
    index = NearestIndex([("b", 48.0, 2.0), ("a", 48.0, 2.0), ("c", 48.0, 2.0)])
    assert index.nearest(48.0, 2.0, 2) == [("b", 0.0), ("a", 0.0)]


def test_empty_index_and_empty_wish() -> None:
    assert NearestIndex[int]([]).nearest(48.0, 2.0, 3) == []
    assert NearestIndex([(1, 48.0, 2.0)]).nearest(48.0, 2.0, 0) == []


def test_thirty_nearest_of_the_real_locations_are_quick() -> None:
    locations = load_register(CENTRES).locations
    index = NearestIndex((location.id, location.lat, location.lon) for location in locations)
    seconds = []
    for location in Random(1).sample(locations, 300):
        begun = time.perf_counter()
        found = index.nearest(location.lat, location.lon, 30, 300)
        seconds.append(time.perf_counter() - begun)
        assert found[0][1] == pytest.approx(0, abs=TOLERANCE_KM)
    assert median(seconds) < 300e-6
