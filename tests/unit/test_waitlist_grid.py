"""The grid finds every circle that covers a place, once, in few cells."""

from hypothesis import example, given
from hypothesis import strategies as st

from engine import limits
from engine.domain.geo import distance_km
from engine.waitlist.grid import cells_at, cells_covering

LATITUDES = st.floats(-90, 90)
LONGITUDES = st.floats(-180, 180)
RADII = st.floats(0.01, limits.WAITLIST_RADIUS_KM_MAX)
NEAR = st.floats(-1.5, 1.5)


@given(LATITUDES, LONGITUDES, RADII, NEAR, NEAR)
@example(0.0, 180.0, 10.0, 0.0, -0.0001)
@example(89.9, 0.0, 50.0, 0.0, 1.0)
@example(-90.0, 0.0, 50.0, 0.1, 1.0)
@example(90.0, 180.0, 0.01, 0.0, 0.0)
def test_a_circle_that_covers_a_place_is_found_once(
    lat: float, lon: float, radius_km: float, north: float, east: float
) -> None:
    place = (min(90.0, max(-90.0, lat + north)), (lon + east + 180) % 360 - 180)
    shared = set(cells_at(*place)) & set(cells_covering(lat, lon, radius_km))
    if distance_km(lat, lon, *place) <= radius_km:
        assert len(shared) == 1
    else:
        assert len(shared) <= 1


@given(LATITUDES, LONGITUDES, RADII)
def test_a_circle_takes_few_cells_that_a_column_can_hold(lat: float, lon: float, radius_km: float) -> None:
    seats = cells_covering(lat, lon, radius_km)
    alerts = cells_covering(lat, lon, radius_km, alert=True)
    assert 1 <= len(seats) <= 9
    assert not set(seats) & set(alerts)
    assert all(0 <= cell < 2**31 for cell in (*seats, *alerts, *cells_at(lat, lon, alert=True)))
