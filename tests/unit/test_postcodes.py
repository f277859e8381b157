"""Postcodes and the draw of people's homes, against the real table and planted mistakes."""

from collections import Counter
from pathlib import Path

import pytest

from engine.capacity.postcodes import Postcode, Postcodes
from engine.rules.tables import BadRowError

TABLE = Path(__file__).parents[2] / "config" / "france" / "codes_postaux.csv"
HEADER = "code_postal,commune,departement,lat,lon,population,n_communes\n"


@pytest.fixture(scope="module")
def postcodes() -> Postcodes:
    return Postcodes.load(TABLE)


def test_every_postcode_is_there_once(postcodes: Postcodes) -> None:
    assert len(postcodes) == len({postcode.postcode for postcode in postcodes}) == 6189
    assert postcodes.get("01000") == Postcode("01000", 46.2057, 5.2379, 47054, "Bourg-en-Bresse", "01")
    assert postcodes.get("99999") is None


def test_population_of_a_municipality_counts_once(postcodes: Postcodes) -> None:
    toulouse = [postcode for postcode in postcodes if postcode.municipality == "Toulouse"]
    assert len(toulouse) == 6
    assert sum(postcode.population for postcode in toulouse) == 493_465
    assert {postcode.population // 100 for postcode in toulouse} == {822}
    # 67.2 million inhabitants by departements.csv; 85.3 million if every repetition were counted.
    assert sum(postcode.population for postcode in postcodes) == 70_813_886


def test_same_seed_draws_the_same_row(postcodes: Postcodes) -> None:
    rows = [[draw().postcode for _ in range(200)] for draw in map(postcodes.weighted_sampler, (7, 7, 8))]
    assert rows[0] == rows[1] != rows[2]


def test_draw_follows_the_population(postcodes: Postcodes) -> None:
    draw = postcodes.weighted_sampler(20210712)
    drawn = Counter(draw().department for _ in range(50_000))
    living: Counter[str] = Counter()
    for postcode in postcodes:
        living[postcode.department] += postcode.population
    total = living.total()
    assert set(drawn) <= set(living)
    for department, population in living.items():
        expected = 50_000 * population / total
        assert abs(drawn[department] - expected) < 5 * expected**0.5 + 1, department


def test_draw_reaches_first_and_last_and_never_the_empty() -> None:
    inhabitants = {"00001": 0, "00002": 1, "00003": 0, "00004": 2, "00005": 1, "00006": 0}
    table = [Postcode(code, 0.0, 0.0, people, code, "00") for code, people in inhabitants.items()]
    draw = Postcodes(table).weighted_sampler(1)
    drawn = Counter(draw().postcode for _ in range(4_000))
    assert set(drawn) == {"00002", "00004", "00005"}
    assert all(abs(drawn[code] - 1_000 * inhabitants[code]) < 200 for code in drawn)


def test_nothing_to_draw_from_is_an_error() -> None:
    with pytest.raises(ValueError, match="inhabitants"):
        Postcodes([]).weighted_sampler(1)


@pytest.mark.parametrize(
    ("line", "column", "reason"),
    [
        ("1000,A,01,46,5,10,1", "code_postal", "five digits"),
        ("01000,A,01,46,5,10,1", "code_postal", "twice"),
        ("01001,,01,46,5,10,1", "commune", "is empty"),
        ("01001,A,01,x,5,10,1", "lat", "not a number"),
        ("01001,A,01,46,181,10,1", "lon", "not between"),
        ("01001,A,01,46,5,-1,1", "population", "not between"),
    ],
)
def test_bad_row_names_line_column_reason(tmp_path: Path, line: str, column: str, reason: str) -> None:
    path = tmp_path / "codes.csv"
    path.write_text(f"{HEADER}01000,A,01,46,5,10,1\n{line}\n")
    with pytest.raises(BadRowError, match=reason) as caught:
        Postcodes.load(path)
    assert (caught.value.line, caught.value.column) == (3, column)
