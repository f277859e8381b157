"""The real register of centres, and planted mistakes in it."""

import csv
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from engine.capacity.register import Register, load_register, parse_hours, zone_of
from engine.rules.tables import BadRowError

CENTRES = Path(__file__).parents[2] / "config" / "france" / "centres.csv"


@pytest.fixture(scope="module")
def register() -> Register:
    return load_register(CENTRES)


def test_selected_locations_are_numbered_in_order_of_the_register(register: Register) -> None:
    with CENTRES.open(encoding="utf-8", newline="") as lines:
        selected = sorted(int(row["gid"]) for row in csv.DictReader(lines) if row["selection"] == "t")
    assert len(register.locations) == len(selected) == 1575
    assert [location.id for location in register.locations] == list(range(1, 1576))
    assert [int(location.register_id) for location in register.locations] == selected
    assert set(register.weeks) == set(range(1, 1576))


def test_columns_land_in_their_fields(register: Register) -> None:
    first = register.locations[0]
    assert first.register_id == "15"
    assert (first.name, first.municipality) == ("Grand centre de vaccination", "Charleville-Mézières")
    assert (first.address, first.postcode) == ("45 Avenue de Manchester", "08000")
    assert (first.department, first.region) == ("08", "44")
    assert (first.lat, first.lon, first.zone) == (49.76170, 4.69512, "Europe/Paris")


def test_zones_of_the_overseas_departments(register: Register) -> None:
    overseas: dict[tuple[str, str], list[int]] = {}
    for location in register.locations:
        if location.zone != "Europe/Paris":
            overseas.setdefault((location.department, location.zone), []).append(location.id)
    assert {key: len(ids) for key, ids in overseas.items()} == {
        ("971", "America/Guadeloupe"): 8,
        ("972", "America/Martinique"): 7,
        ("973", "America/Cayenne"): 4,
        ("974", "Indian/Reunion"): 10,
        ("977", "America/St_Barthelemy"): 1,
        ("978", "America/Marigot"): 1,
    }


@pytest.mark.parametrize(
    "department",
    ["01", "2A", "75", "971", "972", "973", "974", "975", "976", "977", "978", "986", "987", "988"],
)
def test_every_zone_exists(department: str) -> None:
    zone = zone_of(department)
    assert ZoneInfo(zone).key == zone
    assert (zone == "Europe/Paris") == (len(department) == 2)


def test_unknown_closed_and_open_days_are_told_apart(register: Register) -> None:
    by_gid = {location.register_id: register.weeks[location.id] for location in register.locations}
    assert by_gid["18"] == (None, *(((600, 720),),) * 4, (), ())
    assert by_gid["15"] == (*(((540, 780), (840, 1080)),) * 5, None, None)
    assert sum(all(day is None for day in week) for week in by_gid.values()) == 238


@pytest.mark.parametrize(
    ("text", "hours"),
    [
        ("", None),
        ("ferme", ()),
        ("09:00-17:00", ((540, 1020),)),
        ("09:00-13:00,13:00-18:31", ((540, 780), (780, 1111))),
        ("00:00-24:00", ((0, 1440),)),
    ],
)
def test_parse_hours(text: str, hours: object) -> None:
    assert parse_hours(text) == hours


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("9:00-17:00", "not HH:MM"),
        ("09:00-17:60", "not HH:MM"),
        ("09h-17h", "not HH:MM"),
        ("09:00-17:00,", "not HH:MM"),
        ("17:00-09:00", "ends before"),
        ("09:00-09:00", "ends before"),
        ("09:00-24:30", "after 24:00"),
        ("09:00-13:00,12:00-18:00", "overlap"),
        ("14:00-18:00,09:00-12:00", "out of order"),
        ("Ferme", "not HH:MM"),
    ],
)
def test_unreadable_hours_are_refused(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_hours(text)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("gid", "seventeen", "not a whole number"),
        ("gid", "15", "twice"),
        ("nom", "  ", "is empty"),
        ("code_postal", "1400", "five digits"),
        ("departement", "", "is empty"),
        ("lat", "91", "not between"),
        ("lat", "nan", "not between"),
        ("lon", "0,35", "not a number"),
        ("selection", "yes", "neither"),
        ("mer", "8h-12h", "not HH:MM"),
    ],
)
def test_bad_row_names_line_column_reason(tmp_path: Path, column: str, value: str, reason: str) -> None:
    path = _changed(tmp_path, line=3, changes={column: value})
    with pytest.raises(BadRowError, match=reason) as caught:
        load_register(path)
    assert (caught.value.source, caught.value.line, caught.value.column) == ("centres.csv", 3, column)
    assert f"line 3, column {column}: " in str(caught.value)


def test_rows_not_selected_are_left_out_whatever_they_hold(tmp_path: Path) -> None:
    path = _changed(tmp_path, line=3, changes={"selection": "f", "lat": "far", "lun": "8h"})
    assert [location.register_id for location in load_register(path).locations] == ["15", "18"]


def _changed(folder: Path, line: int, changes: dict[str, str]) -> Path:
    """The first three rows of the register with one of them changed (the header is line 1)."""
    with CENTRES.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        rows = [row for _, row in zip(range(3), reader, strict=False)]
        columns = list(reader.fieldnames or ())
    rows[line - 2] |= changes
    path = folder / "centres.csv"
    with path.open("w", encoding="utf-8", newline="") as lines:
        writer = csv.DictWriter(lines, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path
