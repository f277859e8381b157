"""Vaccines, and how many days may lie between dose 1 and dose 2 on the day of booking.

Invariants: for one vaccine no two rules begin on the same day; ``1 <= days_min <= days_max``. Days are
counted between the local dates of the two sessions, so neither the hour nor a change of daylight saving
time matters. A vaccine that is not in the campaign, and a day on which no interval is known, are errors:
an interval is never guessed.
"""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import date
from pathlib import Path

import msgspec

from engine.rules.tables import read_rows

_DAYS_MAX = 366


class UnknownVaccineError(LookupError):
    """The campaign has no vaccine of this code."""

    def __init__(self, code: str, known: Iterable[str]) -> None:
        super().__init__(f"unknown vaccine {code!r}; the campaign has {', '.join(sorted(known)) or 'none'}")


class NoIntervalError(LookupError):
    """The vaccine has one dose only, or no interval was in force on the day of booking."""


class Vaccine(msgspec.Struct, frozen=True, gc=False):
    """A product of the campaign: ``doses`` of the primary course (1 or 2), ``age_min`` in years.

    ``number`` is the state's (VAC-SI, 1 to 255), which stands for the code where bytes count.

    ``days_min``/``days_max`` is the interval that the product table states. It counts only where the
    dated rules say nothing of the vaccine at all.
    """

    code: str
    name: str
    doses: int
    age_min: int
    number: int
    days_min: int | None = None
    days_max: int | None = None


class IntervalRule(msgspec.Struct, frozen=True, gc=False):
    """From ``since`` on, dose 2 of ``vaccine`` comes ``days_min`` to ``days_max`` days after dose 1."""

    vaccine: str
    since: date
    days_min: int
    days_max: int


class Intervals:
    """The campaign's vaccines and its dated intervals."""

    def __init__(self, vaccines: Iterable[Vaccine], rules: Iterable[IntervalRule]) -> None:
        self.vaccines = {vaccine.code: vaccine for vaccine in vaccines}
        self.by_number = {vaccine.number: vaccine for vaccine in self.vaccines.values()}
        self._rules: dict[str, list[IntervalRule]] = {}
        for rule in sorted(rules, key=lambda rule: rule.since):
            self.vaccine(rule.vaccine)
            self._rules.setdefault(rule.vaccine, []).append(rule)

    def vaccine(self, code: str) -> Vaccine:
        """The vaccine of this code; ``UnknownVaccineError`` if there is none."""
        found = self.vaccines.get(code)
        if found is None:
            raise UnknownVaccineError(code, self.vaccines)
        return found

    def on(self, vaccine_code: str, booking_day: date) -> tuple[int, int]:
        """``(days_min, days_max)`` in force for what is booked on ``booking_day``.

        Raises ``UnknownVaccineError``, or ``NoIntervalError`` for a vaccine of one dose and for a day
        before the first rule.
        """
        vaccine = self.vaccine(vaccine_code)
        if vaccine.doses < 2:
            raise NoIntervalError(f"{vaccine_code} has one dose: there is no interval")
        rules = self._rules.get(vaccine_code)
        if rules is None:
            return _stated(vaccine)
        position = bisect_right(rules, booking_day, key=lambda rule: rule.since)
        if position == 0:
            raise NoIntervalError(
                f"{vaccine_code} has no interval on {booking_day}, only from {rules[0].since}"
            )
        rule = rules[position - 1]
        return rule.days_min, rule.days_max

    def allows(self, vaccine_code: str, booking_day: date, dose_1_day: date, dose_2_day: date) -> bool:
        """Whether dose 2 on ``dose_2_day`` may follow dose 1 on ``dose_1_day`` (local dates)."""
        days_min, days_max = self.on(vaccine_code, booking_day)
        return days_min <= (dose_2_day - dose_1_day).days <= days_max


def _stated(vaccine: Vaccine) -> tuple[int, int]:
    if vaccine.days_min is None or vaccine.days_max is None:
        raise NoIntervalError(f"no interval is known for {vaccine.code}")
    return vaccine.days_min, vaccine.days_max


def load_vaccines(path: Path) -> list[Vaccine]:
    """The vaccines of ``vaccins.csv``; ``BadRowError`` for a row that cannot be read."""
    columns = ("code", "nom_commercial", "doses_primovaccination", "age_min_fr", "code_vacsi")
    vaccines: dict[str, Vaccine] = {}
    for row in read_rows(path, (*columns, "intervalle_min_jours", "intervalle_max_jours")):
        code = row.filled("code")
        if code in vaccines:
            raise row.bad("code", f"{code!r} is there twice")
        days_min = row.optional_integer("intervalle_min_jours", 1, _DAYS_MAX)
        vaccines[code] = Vaccine(
            code=code,
            name=row.filled("nom_commercial"),
            doses=row.integer("doses_primovaccination", 1, 2),
            age_min=row.integer("age_min_fr", 0, 120),
            number=row.integer("code_vacsi", 1, 255),
            days_min=days_min,
            days_max=row.optional_integer("intervalle_max_jours", days_min or 1, _DAYS_MAX),
        )
    return list(vaccines.values())


def load_rules(path: Path, vaccine_codes: Iterable[str]) -> list[IntervalRule]:
    """The dated rules of ``vaccins_intervalle_historique.csv``, in the file's order."""
    known = set(vaccine_codes)
    rules: dict[tuple[str, date], IntervalRule] = {}
    for row in read_rows(path, ("a_partir_de", "vaccin", "min_jours", "max_jours")):
        code, since = row.filled("vaccin"), row.day("a_partir_de")
        if code not in known:
            raise row.bad("vaccin", f"unknown vaccine {code!r}")
        if (code, since) in rules:
            raise row.bad("a_partir_de", f"{code!r} has two rules from {since}")
        days_min = row.integer("min_jours", 1, _DAYS_MAX)
        days_max = row.integer("max_jours", days_min, _DAYS_MAX)
        rules[code, since] = IntervalRule(vaccine=code, since=since, days_min=days_min, days_max=days_max)
    return list(rules.values())


def load_intervals(vaccines_path: Path, history_path: Path) -> Intervals:
    """The campaign's intervals from its two tables; ``BadRowError`` for a row that cannot be read."""
    vaccines = load_vaccines(vaccines_path)
    return Intervals(vaccines, load_rules(history_path, (vaccine.code for vaccine in vaccines)))
