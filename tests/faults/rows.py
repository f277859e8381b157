"""Reads Postgres' rows for the checker."""

from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any

from tests.faults.checker import Change, CourseRow, Had

Fetch = Callable[[str], Awaitable[list[Any]]]
Key = tuple[str, int]
Seat = tuple[int, int, int, int]
KEY_BYTES = 8
COURSES = "select person_key, generation, location, state::text as state, op from course"
SEATS = """
select person_key, generation, dose, session, slot, seat, revision, left_revision, live, joined
from appointment
"""
CHANGES = """
select person_key, generation, act::text as act, op, revision,
  round(extract(epoch from at) * 1000)::bigint as at_ms
from change order by revision
"""
# Of a part is told that it was set aside, once for all doses of a revision, and that it was given back, each.
PART_EVENTS = """
select (
  select count(*) from (
    select distinct person_key, kind, generation, revision, place, op from appointment where home is not null
  ) as told
) + (select count(*) from appointment where place <> 255 and ended_at is not null) as n
"""


async def read_rows(fetch: Fetch) -> list[CourseRow]:
    """Every course, its seats, and what was done to it; seats that are taken for no course as well."""
    had: defaultdict[Key, list[Had]] = defaultdict(list)
    live: defaultdict[Key, list[Seat]] = defaultdict(list)
    for row in await fetch(SEATS):
        seat = (row["dose"], row["session"], row["slot"], row["seat"])
        if row["joined"]:
            had[_key(row)].append(Had(seat, row["revision"], row["left_revision"] or 0))
        if row["live"]:
            live[_key(row)].append(seat)
    changes: defaultdict[Key, list[Change]] = defaultdict(list)
    for row in await fetch(CHANGES):
        changes[_key(row)].append(Change(row["act"], _op_key(row), row["revision"], row["at_ms"]))
    rows = [
        CourseRow(
            *_key(row),
            row["location"],
            row["state"],
            _op_key(row),
            tuple(had.pop(_key(row), ())),
            tuple(live.pop(_key(row), ())),
            tuple(changes.pop(_key(row), ())),
        )
        for row in await fetch(COURSES)
    ]
    for key, seats in live.items():
        rows.append(CourseRow(*key, 0, "", "", (), tuple(seats)))
    return rows


async def part_events(fetch: Fetch) -> int:
    """Events of seats that were set aside, or given back, away from their course's home."""
    return int((await fetch(PART_EVENTS))[0]["n"])


def _key(row: Any) -> Key:
    return row["person_key"].hex, row["generation"]


def _op_key(row: Any) -> str:
    return bytes(row["op"][:KEY_BYTES]).hex()
