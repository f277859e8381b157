"""Joining the waitlist, the place in it, and leaving.

The same key joins once. A fault of Postgres passes through: asking again with the same key is always right.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Any

import msgspec

from engine import limits
from engine.domain.course import Kind, Op
from engine.privacy.seal import Sealer
from engine.storage import waitlist as rows
from engine.storage.waitlist import Area, EntryRow, Form, NewEntry, Terms
from engine.waitlist.grid import cells_at, cells_covering
from engine.waitlist.ledger import Ledger
from engine.waitlist.needs import Member
from engine.waitlist.offers import seal
from engine.waitlist.states import EntryState, Purpose

_KEY_BYTES = 8
_ATTEMPTS_MAX = 3
_EVERY_DAY = 127

HasLiveCourse = Callable[[bytes, int], Awaitable[bool]]


class Asked(msgspec.Struct, frozen=True):
    """What somebody wants to wait for: themselves, or a family that comes together or not at all.

    ``shape`` is for the search. ``weekdays``: bit 0 is Monday. ``vaccines`` empty: any.
    """

    members: tuple[Member, ...]
    kind: int
    shape: str
    area: Area
    first_day: date
    last_day: date
    weekdays: int = _EVERY_DAY
    vaccines: tuple[str, ...] = ()
    purpose: Purpose = Purpose.SEATS


class Bar(StrEnum):
    """Why somebody may not join. Stable names: they stand in problems."""

    PEOPLE = "people"
    KIND = "kind"
    SHAPE = "shape"
    AREA = "area"
    DAYS = "days"
    VACCINES = "vaccines"
    UNKNOWN_PERSON = "unknown-person"
    ALREADY_BOOKED = "already-booked"
    TOO_MANY_ENTRIES = "too-many-entries"
    WAITLIST_FULL = "waitlist-full"
    KEY_REUSED = "key-reused"


class Joined(msgspec.Struct, frozen=True):
    """The entry, now or by an earlier call with this key."""

    entry: int


class NotJoined(msgspec.Struct, frozen=True):
    """Refused, nothing written."""

    bar: Bar


class Place(msgspec.Struct, frozen=True):
    """How many entries joined ``before``, still wait for the same kind, and want places where this one does.

    "Where" is the middle of its circle: their circles cover it. Their days and vaccines may be others, so the
    real line is this long or shorter. ``or_more`` where counting ended.
    """

    before: int
    or_more: bool


class Entries:
    """The entries of one deployment. ``has_live_course`` as the seats have it."""

    def __init__(
        self,
        pool: Any,
        ledger: Ledger,
        sealer: Sealer,
        has_live_course: HasLiveCourse,
        now: Callable[[], datetime],
    ) -> None:
        self._pool = pool
        self._ledger = ledger
        self._sealer = sealer
        self._has_live_course = has_live_course
        self._now = now

    async def join(self, asked: Asked, idempotency_key: str) -> Joined | NotJoined:
        """Wait, at the end of the line."""
        bar = bar_of(asked, self._now())
        op = _op(asked, idempotency_key)
        if bar is not None:
            return await self._before(op) or NotJoined(bar)
        if asked.purpose is Purpose.SEATS and await self._is_booked(asked):
            return await self._before(op) or NotJoined(Bar.ALREADY_BOOKED)
        people = [member.person for member in asked.members]
        async with self._pool.acquire() as connection, connection.transaction():
            await rows.lock_people(connection, people)
            answer = await _known(connection, op) or await self._bar(connection, people)
            if answer is not None:
                return answer
            return Joined(await rows.insert_entry(connection, self._new(asked, op), self._now()))

    async def read(self, entry: int) -> EntryRow | None:
        """The entry as it is."""
        return await rows.entry_of_id(self._pool, entry)

    async def place(self, entry: int) -> Place | None:
        """The place in line; None for an entry that does not wait, or only waits to be told."""
        row = await rows.entry_of_id(self._pool, entry)
        if row is None or row.purpose != Purpose.SEATS:
            return None
        if row.state not in (EntryState.WAITING, EntryState.OFFERED):
            return None
        cells, most = cells_at(row.area.lat, row.area.lon), limits.WAITLIST_PLACE_MAX
        before = await rows.count_before(self._pool, row, cells, most)
        return Place(before, or_more=before >= most)

    async def told(self, entry: int) -> list[rows.Told]:
        """Of which places an alert was told, the latest first, at most ``ALERTS_SHOWN_MAX``."""
        return await rows.told(self._pool, entry, limits.ALERTS_SHOWN_MAX)

    async def leave(self, entry: int) -> EntryState | None:
        """Wait no longer; an offer is withdrawn. The state then: ``left``, or how the entry had ended before.

        ``offered``: an acceptance is under way, and leaving has to wait for what comes of it. None: unknown.
        """
        state: str | None = None
        for _ in range(_ATTEMPTS_MAX):
            state = await self._ledger.end(entry, EntryState.LEFT, self._now())
            if state not in (EntryState.WAITING, EntryState.OFFERED):
                break
        return None if state is None else EntryState(state)

    async def forget(self, person: bytes) -> bool:
        """Leave everything that a person is in; False as long as an acceptance is under way somewhere."""
        ended = [await self.leave(entry) for entry in await rows.entries_of(self._pool, [person])]
        return EntryState.OFFERED not in ended

    async def _is_booked(self, asked: Asked) -> bool:
        for member in asked.members:
            if await self._has_live_course(member.person, asked.kind):
                return True
        return False

    async def _before(self, op: Op) -> Joined | NotJoined | None:
        """The answer that this op had, whatever the moment says now."""
        return await _known(self._pool, op)

    async def _bar(self, connection: Any, people: Sequence[bytes]) -> NotJoined | None:
        if await rows.count_registered(connection, people) < len(people):
            return NotJoined(Bar.UNKNOWN_PERSON)
        if await rows.count_live(connection, people) >= limits.WAITLIST_PER_PERSON_MAX:
            return NotJoined(Bar.TOO_MANY_ENTRIES)
        standing = await rows.standing(connection)
        if standing is not None and standing[2] >= limits.WAITLIST_ENTRIES_MAX:
            return NotJoined(Bar.WAITLIST_FULL)
        return None

    def _new(self, asked: Asked, op: Op) -> NewEntry:
        area, is_alert = asked.area, asked.purpose is Purpose.ALERT
        return NewEntry(
            asked.purpose,
            Form(asked.kind, asked.shape, len(asked.members)),
            area,
            Terms(asked.first_day, asked.last_day, asked.weekdays, asked.vaccines),
            tuple((member.person, seal(member, self._sealer)) for member in asked.members),
            cells_covering(area.lat, area.lon, area.radius_km, alert=is_alert),
            op,
        )


def bar_of(asked: Asked, now: datetime) -> Bar | None:
    """What is wrong with what is asked, before anybody else is."""
    people = {member.person for member in asked.members}
    days = (asked.last_day - asked.first_day).days
    area = asked.area
    wrong = {
        Bar.PEOPLE: not 1 <= len(people) == len(asked.members) <= limits.WAITLIST_PEOPLE_MAX,
        Bar.KIND: asked.kind not in (Kind.PRIMARY, Kind.BOOSTER),
        Bar.SHAPE: len(asked.shape) > limits.WAITLIST_SHAPE_CHARS_MAX or "\0" in asked.shape,
        Bar.AREA: not (
            -90 <= area.lat <= 90
            and -180 <= area.lon <= 180
            and 0 < area.radius_km <= limits.WAITLIST_RADIUS_KM_MAX
        ),
        Bar.DAYS: not (0 <= days <= limits.WAITLIST_DAYS_MAX and 1 <= asked.weekdays <= _EVERY_DAY)
        or (now.date() - asked.last_day).days > 1
        or (asked.first_day - now.date()).days > limits.WAITLIST_DAYS_MAX,
        Bar.VACCINES: len(asked.vaccines) > limits.WAITLIST_VACCINES_MAX,
    }
    return next((bar for bar, is_wrong in wrong.items() if is_wrong), None)


async def _known(connection: Any, op: Op) -> Joined | NotJoined | None:
    found = await rows.entry_of_op(connection, op.key)
    if found is None:
        return None
    entry, digest = found
    return Joined(entry) if digest == op.digest else NotJoined(Bar.KEY_REUSED)


def _op(asked: Asked, idempotency_key: str) -> Op:
    """The key's scope is the first member."""
    scope = asked.members[0].person if asked.members else b""
    key = sha256(b"waitlist\0" + scope + idempotency_key.encode()).digest()[:_KEY_BYTES]
    return Op(key, sha256(msgspec.msgpack.encode(asked)).digest()[:_KEY_BYTES])
