"""Weekly allocations of doses to centres: how much each may inject in a week, and of which vaccine.

Of the weeks in the table only complete ones count (the last was cut off while it was being filled), and of
those only rows with vials. The mean of a centre's weeks is its allocation. A centre with no such row has
none: the opening gives it the default and counts it.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import date
from fractions import Fraction
from pathlib import Path
from statistics import fmean

import msgspec

from engine.rules.tables import read_rows

VACCINE_OF_DOSES_PER_VIAL = {5: "janssen", 6: "pfizer", 8: "astrazeneca", 10: "moderna"}
"""By ``doses_par_flacon`` of ``vaccins.csv``. Novavax has 10 too, but was not in use in these weeks."""

_COMPLETE_SHARE = 0.75
_COUNT_MAX = 10_000_000


class AllocationWeek(msgspec.Struct, frozen=True, gc=False):
    """What one centre was allocated in the week that begins on ``monday``."""

    register_id: str
    monday: date
    vials: int
    doses: int


class Allocation(msgspec.Struct, frozen=True, gc=False):
    """A centre's doses in a usual week. ``vaccine`` is ``None`` where the vials do not tell."""

    weekly_doses: int
    vaccine: str | None


class Allocations(msgspec.Struct, frozen=True):
    """Allocations by the register's key of the centre."""

    by_register_id: dict[str, Allocation]


def load_allocations(path: Path) -> Allocations:
    """From ``allocations_rdv_2021-08.csv``; ``BadRowError`` for a row that cannot be read."""
    weeks = []
    seen = set()
    for row in read_rows(path, ("gid", "semaine", "flacons_ucd", "doses_allouees")):
        week = AllocationWeek(
            register_id=str(row.integer("gid", 1, _COUNT_MAX)),
            monday=row.day("semaine"),
            vials=row.integer("flacons_ucd", 0, _COUNT_MAX),
            doses=row.integer("doses_allouees", 0, _COUNT_MAX),
        )
        if (week.register_id, week.monday) in seen:
            raise row.bad("semaine", f"centre {week.register_id} has {week.monday} twice")
        seen.add((week.register_id, week.monday))
        weeks.append(week)
    return usual_weeks(weeks)


def usual_weeks(weeks: Iterable[AllocationWeek]) -> Allocations:
    """Each centre's mean over the complete weeks in which it had vials."""
    weeks = list(weeks)
    complete = _complete_mondays(weeks)
    by_centre: defaultdict[str, list[AllocationWeek]] = defaultdict(list)
    for week in weeks:
        if week.monday in complete and week.vials > 0:
            by_centre[week.register_id].append(week)
    return Allocations(by_register_id={centre: _usual(found) for centre, found in by_centre.items()})


def _complete_mondays(weeks: list[AllocationWeek]) -> set[date]:
    """Weeks that name at least three quarters as many centres as the fullest one."""
    centres: defaultdict[date, int] = defaultdict(int)
    for week in weeks:
        centres[week.monday] += 1
    fullest = max(centres.values(), default=0)
    return {monday for monday, count in centres.items() if count >= _COMPLETE_SHARE * fullest}


def _usual(weeks: list[AllocationWeek]) -> Allocation:
    ratios = {Fraction(week.doses, week.vials) for week in weeks}
    only = ratios.pop() if len(ratios) == 1 else Fraction(0)
    vaccine = VACCINE_OF_DOSES_PER_VIAL.get(only.numerator) if only.denominator == 1 else None
    return Allocation(weekly_doses=round(fmean(week.doses for week in weeks)), vaccine=vaccine)
