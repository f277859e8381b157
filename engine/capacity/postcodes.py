"""Postcodes: where people live, for finding places near them and for drawing people as the country has them.

Invariant: the populations add up to the inhabitants once. The table repeats the whole population of a
municipality in each of its postcodes (Toulouse has six, all at one centroid); such rows share it here.
What remains of the excess (postcodes that group several municipalities) is about 5 % for France.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from pathlib import Path
from random import Random

import msgspec

from engine.rules.tables import Row, read_rows

_COLUMNS = ("code_postal", "commune", "departement", "lat", "lon", "population")
_POPULATION_MAX = 10_000_000


class Postcode(msgspec.Struct, frozen=True, gc=False):
    """A postcode with its centroid (degrees WGS84), inhabitants and main municipality."""

    postcode: str
    lat: float
    lon: float
    population: int
    municipality: str
    department: str


class Postcodes:
    """The postcodes of the country, by code."""

    def __init__(self, postcodes: list[Postcode]) -> None:
        self._by_code = {postcode.postcode: postcode for postcode in postcodes}

    @classmethod
    def load(cls, path: Path) -> "Postcodes":
        """From ``codes_postaux.csv``; ``BadRowError`` for a row that cannot be read."""
        found: dict[str, Postcode] = {}
        for row in read_rows(path, _COLUMNS):
            postcode = _postcode(row)
            if postcode.postcode in found:
                raise row.bad("code_postal", f"{postcode.postcode} is there twice")
            found[postcode.postcode] = postcode
        return cls(_shared(list(found.values())))

    def __len__(self) -> int:
        return len(self._by_code)

    def __iter__(self) -> Iterator[Postcode]:
        return iter(self._by_code.values())

    def get(self, postcode: str) -> Postcode | None:
        """The postcode, or ``None`` if the country has none of that number."""
        return self._by_code.get(postcode)

    def weighted_sampler(self, seed: int) -> Callable[[], Postcode]:
        """A function that draws a postcode, each as likely as it has inhabitants; O(log n) a draw.

        The same seed draws the same row of postcodes.
        """
        drawn = [postcode for postcode in self if postcode.population > 0]
        sums = list(accumulate(postcode.population for postcode in drawn))
        if not drawn:
            raise ValueError("no postcode has inhabitants: nothing to draw from")
        random = Random(seed)  # noqa: S311  (a sample of places, no secret)

        def draw() -> Postcode:
            return drawn[bisect_right(sums, random.randrange(sums[-1]))]

        return draw


def _postcode(row: Row) -> Postcode:
    code = row.filled("code_postal")
    if len(code) != 5 or not code.isdigit():
        raise row.bad("code_postal", f"{code!r} is not five digits")
    return Postcode(
        postcode=code,
        lat=row.number("lat", -90, 90),
        lon=row.number("lon", -180, 180),
        population=row.integer("population", 0, _POPULATION_MAX),
        municipality=row.filled("commune"),
        department=row.filled("departement"),
    )


def _shared(postcodes: list[Postcode]) -> list[Postcode]:
    """The postcodes, those of one municipality and centroid with equal parts of its one population."""
    parts = Counter(map(_place, postcodes))
    given: Counter[tuple[str, str, float, float, int]] = Counter()
    result = []
    for postcode in postcodes:
        place = _place(postcode)
        nth, of = given[place], parts[place]
        given[place] += 1
        part = (nth + 1) * postcode.population // of - nth * postcode.population // of
        result.append(msgspec.structs.replace(postcode, population=part))
    return result


def _place(postcode: Postcode) -> tuple[str, str, float, float, int]:
    return postcode.municipality, postcode.department, postcode.lat, postcode.lon, postcode.population
