"""The people of a surge: invented, all different, living where the country's inhabitants live.

Names are made of syllables that spell the person's number and the number of the run, so that no two people of
a run, nor of two runs, have the same name, and none is anybody's on purpose. Two thirds are under 35, as on
that evening. The same seed draws the same people.
"""

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from random import Random

import msgspec

from engine.capacity.postcodes import Postcodes

POSTCODES = Path(__file__).parent.parent / "config" / "france" / "codes_postaux.csv"
RUNS_MAX = 64**3
PEOPLE_MAX = 64**4

_BEGINNINGS = ("b", "d", "f", "g", "l", "m", "n", "p", "r", "s", "t", "v", "z", "br", "cl", "tr")
_ENDINGS = ("a", "é", "i", "o")
_SYLLABLES = tuple(beginning + ending for beginning in _BEGINNINGS for ending in _ENDINGS)
# Odd, so that multiplying modulo a power of two only mixes the numbers: neighbours get unlike names.
_MIX = 0x9E3779B1
_UNDER_35_SHARE = 0.65
_YOUNGEST_DAYS, _BORDER_DAYS, _OLDEST_DAYS = 18 * 366, 35 * 365, 90 * 365


class Person(msgspec.Struct, frozen=True, gc=False):
    """One who wants to be vaccinated, as they register, and the postcode they search near."""

    number: int
    family_name: str
    given_names: str
    birth_date: date
    email: str
    postcode: str

    def registration(self) -> dict[str, object]:
        """The body of ``POST /v1/persons``."""
        return {
            "family_name": self.family_name,
            "given_names": self.given_names,
            "birth_date": self.birth_date,
            "email": self.email,
        }


def people(count: int, run: int, seed: int, today: date) -> Iterator[Person]:
    """``count`` people of a run. Raises ``ValueError`` beyond the names that the syllables can spell."""
    if count > PEOPLE_MAX or not 0 <= run < RUNS_MAX:
        raise ValueError(f"at most {PEOPLE_MAX} people in a run, and {RUNS_MAX} runs")
    random = Random(seed)
    postcode = Postcodes.load(POSTCODES).weighted_sampler(seed)
    given = _name((run + 1) * _MIX % RUNS_MAX, 3)
    for number in range(count):
        family = _name(number * _MIX % PEOPLE_MAX, 4)
        yield Person(
            number=number,
            family_name=family,
            given_names=given,
            birth_date=_birth_date(random, today),
            email=f"{given}.{family}@example.org".lower().replace("é", "e"),
            postcode=postcode().postcode,
        )


def _name(number: int, syllables: int) -> str:
    """The number in base 64, a syllable a digit."""
    parts = []
    for _ in range(syllables):
        number, digit = divmod(number, len(_SYLLABLES))
        parts.append(_SYLLABLES[digit])
    return "".join(parts).capitalize()


def _birth_date(random: Random, today: date) -> date:
    young = random.random() < _UNDER_35_SHARE
    first, last = (_YOUNGEST_DAYS, _BORDER_DAYS) if young else (_BORDER_DAYS, _OLDEST_DAYS)
    return today - timedelta(days=random.randrange(first, last))
