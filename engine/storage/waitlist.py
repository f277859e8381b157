"""Typed access to the waitlist's tables. Each function is one statement; who calls it makes transactions.

``connection`` may be a pool where a statement stands alone. Person keys and offer keys are 16 bytes here.
"""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import msgspec

from engine.domain.course import Op
from engine.storage.pool import rows_of
from engine.storage.queries import query


class Area(msgspec.Struct, frozen=True):
    """A circle on the globe: degrees WGS84, km."""

    lat: float
    lon: float
    radius_km: float


class Form(msgspec.Struct, frozen=True):
    """What is wanted, and for how many. Entries of one form can be offered the same seats."""

    kind: int
    shape: str
    size: int

    @property
    def number(self) -> int:
        """What stands for it in the grid: 63 bits of a digest."""
        digest = sha256(f"{self.kind} {self.size} {self.shape}".encode()).digest()
        return int.from_bytes(digest[:8], "little") >> 1


class Terms(msgspec.Struct, frozen=True):
    """What an entry takes: days of the first dose, weekdays (bit 0: Monday), vaccines (none: any)."""

    first_day: date
    last_day: date
    weekdays: int
    vaccines: tuple[str, ...]


class NewEntry(msgspec.Struct, frozen=True):
    """An entry that joins. ``people``: person keys with sealed facts; ``cells`` of its circle."""

    purpose: str
    form: Form
    area: Area
    terms: Terms
    people: tuple[tuple[bytes, bytes], ...]
    cells: tuple[int, ...]
    op: Op


class EntryRow(msgspec.Struct, frozen=True):
    """An entry as it is."""

    id: int
    purpose: str
    form: Form
    area: Area
    terms: Terms
    state: str
    joined_at: datetime
    closed_at: datetime | None


class InLine(msgspec.Struct, frozen=True):
    """An entry in the line of a place."""

    id: int
    form: Form
    people: tuple[bytes, ...]


class Spot(msgspec.Struct, frozen=True):
    """Where a seat came free, as the line is asked for it. ``day`` is the day of telling, for alerts."""

    lat: float
    lon: float
    vaccine: str
    session: int
    slot: int
    location: int
    day: date


class LotRow(msgspec.Struct, frozen=True):
    """A lot. ``wishes`` is MessagePack."""

    id: int
    offer_key: bytes
    kind: int
    location: int
    session: int
    slot: int
    size: int
    wishes: bytes
    state: str
    hold_ms: int
    created_at: datetime
    deadline: datetime


class OfferRow(msgspec.Struct, frozen=True):
    """An offer; ``deadline`` is its lot's."""

    id: int
    lot: int
    entry: int
    state: str
    accept_key: str | None
    decided_at: datetime | None
    deadline: datetime


class Decided(msgspec.Struct, frozen=True):
    """An offer that has just been decided; ``opened_at`` is empty for one that nobody was told of."""

    id: int
    entry: int
    opened_at: datetime | None


# Entries ----------------------------------------------------------------------------------------------------


async def lock_people(connection: Any, people: Sequence[bytes]) -> None:
    """Let one joining in at a time, for these people, until the transaction ends."""
    keys = sorted(int.from_bytes(person[:8], "little", signed=True) for person in people)
    await connection.execute(query("waitlist_entry.lock_people"), keys)


async def entry_of_op(connection: Any, op_key: bytes) -> tuple[int, bytes] | None:
    """Id and op digest of the entry that this key has made."""
    row = await connection.fetchrow(query("waitlist_entry.by_op"), op_key)
    return None if row is None else (row["id"], row["op_digest"])


async def count_live(connection: Any, people: Sequence[bytes]) -> int:
    """The most entries that one of these people has."""
    return int(await connection.fetchval(query("waitlist_entry.count_live"), _uuids(people)))


async def count_registered(connection: Any, people: Sequence[bytes]) -> int:
    """How many of these people are registered."""
    return int(await connection.fetchval(query("waitlist_entry.registered"), _uuids(people)))


async def insert_entry(connection: Any, new: NewEntry, now: datetime) -> int:
    """The id: the place in the order of joining. In a transaction."""
    form, area, terms = new.form, new.area, new.terms
    entry = await connection.fetchval(
        query("waitlist_entry.insert"),
        *(new.purpose, form.kind, form.shape, form.size, area.lat, area.lon, area.radius_km),
        *(
            terms.first_day,
            terms.last_day,
            terms.weekdays,
            list(terms.vaccines),
            new.op.key,
            new.op.digest,
            now,
        ),
    )
    keys, sealed = zip(*new.people, strict=True)
    await connection.execute(query("waitlist_entry.insert_members"), entry, _uuids(keys), list(sealed))
    looked_up = (form.number, terms.first_day, terms.last_day, terms.weekdays)
    await connection.execute(query("waitlist_entry.insert_cells"), entry, list(new.cells), *looked_up)
    return int(entry)


async def entry_of_id(connection: Any, entry: int) -> EntryRow | None:
    """The entry, or None where there is none (any more)."""
    row = await connection.fetchrow(query("waitlist_entry.of_id"), entry)
    if row is None:
        return None
    return EntryRow(
        row["id"],
        row["purpose"],
        _form(row),
        Area(row["lat"], row["lon"], row["radius_km"]),
        Terms(row["first_day"], row["last_day"], row["weekdays"], tuple(row["vaccines"])),
        row["state"],
        row["joined_at"],
        row["closed_at"],
    )


async def members(connection: Any, entry: int) -> list[tuple[bytes, bytes]]:
    """Person keys and sealed facts, in the order in which they were given."""
    rows = await connection.fetch(query("waitlist_entry.members"), entry)
    return [(row["person"], row["sealed"]) for row in rows]


async def entries_of(
    connection: Any, people: Sequence[bytes], kind: int | None = None, purpose: str | None = None
) -> list[int]:
    """Entries of these people that wait, of one kind and purpose or of all."""
    rows = await connection.fetch(query("waitlist_entry.of_person"), _uuids(people), kind, purpose)
    return [row["entry"] for row in rows]


async def line(
    connection: Any,
    spot: Spot,
    cells: Sequence[int],
    not_for: Iterable[bytes],
    passed: Iterable[int],
    known: dict[Form, date | None],
    limit: int,
) -> list[InLine]:
    """The first entries whom a place is for, in the order of joining.

    ``known``: forms with the day of the first dose that could be had, or None for "none". Entries of other
    forms are in the line as well.
    """
    rows = await connection.fetch(
        query("waitlist_entry.line"),
        list(cells),
        *(spot.lat, spot.lon, spot.vaccine, spot.session, spot.slot, spot.location, spot.day),
        *(_uuids(not_for), list(passed), limit),
        *([form.number for form in known], list(known.values())),
    )
    return [InLine(row["id"], _form(row), tuple(row["people"])) for row in rows]


async def wanted(connection: Any, pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Of pairs of location and cell, the locations that somebody waits for."""
    locations, cells = zip(*pairs, strict=True)
    rows = await connection.fetch(query("waitlist_entry.wanted"), list(locations), list(cells))
    return [row["location"] for row in rows]


async def count_before(connection: Any, entry: EntryRow, cells: Sequence[int], most: int) -> int:
    """How many of its kind joined before and want a place in the middle of its circle; up to ``most``."""
    area = entry.area
    arguments = (entry.id, entry.form.kind, list(cells), area.lat, area.lon, most)
    return int(await connection.fetchval(query("waitlist_entry.before"), *arguments))


async def mark_offered(connection: Any, entries: Sequence[int]) -> list[int]:
    """``waiting`` → ``offered``; those that still waited."""
    rows = await connection.fetch(query("waitlist_entry.offer"), list(entries))
    return sorted(row["id"] for row in rows)


async def wait_again(connection: Any, entries: Sequence[int]) -> None:
    """``offered`` → ``waiting``: they kept their place."""
    await connection.execute(query("waitlist_entry.wait_again"), list(entries))


async def lock_entry(connection: Any, entry: int) -> str | None:
    """The state, and nobody changes it until the transaction ends."""
    state: str | None = await connection.fetchval(query("waitlist_entry.lock"), entry)
    return state


async def close_entries(connection: Any, entries: Sequence[int], state: str, now: datetime) -> list[int]:
    """End entries, and take them off the grid; those that were not closed before."""
    rows = await connection.fetch(query("waitlist_entry.close"), list(entries), state, now)
    return [row["id"] for row in rows]


async def close_waiting(connection: Any, entries: Sequence[int], state: str, now: datetime) -> list[int]:
    """End those of these entries that wait and have no offer; those that were closed."""
    rows = await connection.fetch(query("waitlist_entry.close_waiting"), list(entries), state, now)
    return [row["id"] for row in rows]


async def ended(connection: Any, before: date, limit: int) -> list[int]:
    """Waiting entries whose last day has passed."""
    return [row["id"] for row in await connection.fetch(query("waitlist_entry.ended"), before, limit)]


async def booked_meanwhile(connection: Any, after: int, limit: int) -> tuple[int | None, list[int]]:
    """A page of waiting entries: its last id (None at the end), and those with a live course by now."""
    row = await connection.fetchrow(query("waitlist_entry.booked_meanwhile"), after, limit)
    return row["last"], list(row["booked"])


async def tell(connection: Any, entries: Sequence[int], spot: Spot, now: datetime) -> list[int]:
    """Note whom an alert is to be told; those who had not been told of this location on this day."""
    arguments = (list(entries), spot.location, spot.day, spot.session, now)
    return [row["entry"] for row in await connection.fetch(query("waitlist_entry.tell"), *arguments)]


async def anybody(connection: Any) -> bool:
    """Whether anybody waits, for a seat or to be told."""
    return bool(await connection.fetchval(query("waitlist_entry.anybody")))


class Told(msgspec.Struct, frozen=True):
    """An alert was told that a place has opened at a location, for that day."""

    location: int
    day: date
    told_at: datetime


async def told(connection: Any, entry: int, most: int) -> list[Told]:
    """What an entry was told of, the latest first."""
    return [Told(*row) for row in await connection.fetch(query("waitlist_entry.told"), entry, most)]


# Lots and offers --------------------------------------------------------------------------------------------


async def insert_lot(connection: Any, lot: LotRow) -> int:
    """The id; ``lot.id`` and ``lot.state`` are not read."""
    return int(
        await connection.fetchval(
            query("waitlist_lot.insert"),
            *(UUID(bytes=lot.offer_key), lot.kind, lot.location, lot.session, lot.slot, lot.size, lot.wishes),
            *(lot.hold_ms, lot.created_at, lot.deadline),
        )
    )


async def insert_offers(connection: Any, lot: int, entries: Sequence[int], session: int, slot: int) -> None:
    """An offer ``opening`` for each entry."""
    await connection.execute(query("waitlist_offer.insert"), lot, list(entries), session, slot)


async def lot_of_id(connection: Any, lot: int) -> LotRow | None:
    """The lot, or None."""
    row = await connection.fetchrow(query("waitlist_lot.of_id"), lot)
    return None if row is None else LotRow(**dict(row))


async def lock_lot(connection: Any, lot: int) -> str | None:
    """The state, and nobody changes the lot or its offers until the transaction ends."""
    row = await connection.fetchrow(query("waitlist_lot.lock"), lot)
    return None if row is None else str(row["state"])


async def move_lot(connection: Any, lot: int, before: str, after: str, now: datetime) -> None:
    """Compare-and-set of the state."""
    await connection.execute(query("waitlist_lot.move"), lot, before, after, now)


async def close_lot(connection: Any, lot: int, now: datetime) -> None:
    """``closed``, from whatever state."""
    await connection.execute(query("waitlist_lot.close"), lot, now)


async def due_lots(connection: Any, now: datetime, stale: datetime, limit: int) -> list[int]:
    """Lots that have to be driven on; ``stale``: acceptances begun before it count as abandoned."""
    return [row["id"] for row in await connection.fetch(query("waitlist_lot.due"), now, stale, limit)]


async def count_lots(connection: Any) -> int:
    """Lots that are not closed."""
    return int(await connection.fetchval(query("waitlist_lot.count_live")))


async def offers_of(connection: Any, lot: int, state: str) -> list[int]:
    """Offers of a lot in one state."""
    rows = await connection.fetch(query("waitlist_offer.of_lot"), lot)
    return [row["id"] for row in rows if row["state"] == state]


async def offer_of_entry(connection: Any, entry: int) -> tuple[int, int] | None:
    """Offer and lot that an entry has now."""
    row = await connection.fetchrow(query("waitlist_offer.of_entry"), entry)
    return None if row is None else (row["id"], row["lot"])


async def offer_of_id(connection: Any, offer: int) -> OfferRow | None:
    """The offer, or None."""
    row = await connection.fetchrow(query("waitlist_offer.of_id"), offer)
    return None if row is None else OfferRow(**dict(row))


async def opening_offers(connection: Any, lot: int) -> list[tuple[int, tuple[bytes, ...]]]:
    """Entry and people of each offer of a lot that is ``opening``."""
    rows = await connection.fetch(query("waitlist_offer.opening"), lot)
    return [(row["entry"], tuple(row["people"])) for row in rows]


async def open_offers(connection: Any, lot: int, now: datetime) -> int:
    """``opening`` → ``open``; how many."""
    return len(await connection.fetch(query("waitlist_offer.open"), lot, now))


async def begin_acceptance(connection: Any, offer: int, key: str, now: datetime) -> None:
    """``open`` → ``accepting``, under this idempotency key."""
    await connection.execute(query("waitlist_offer.accept"), offer, key, now)


async def decide(
    connection: Any, offers: Sequence[int], before: Sequence[str], after: str, now: datetime
) -> list[Decided]:
    """Compare-and-set of the state of offers; those that moved."""
    arguments = (list(offers), list(before), after, now)
    return _decided(await connection.fetch(query("waitlist_offer.decide"), *arguments))


async def decide_all(
    connection: Any, lot: int, before: Sequence[str], after: str, now: datetime
) -> list[Decided]:
    """The same for all offers of a lot."""
    arguments = (lot, list(before), after, now)
    return _decided(await connection.fetch(query("waitlist_offer.decide_of_lot"), *arguments))


# Standing, and what is forgotten ----------------------------------------------------------------------------


async def found_standing(connection: Any, taken: float, decided: float) -> None:
    """Begin with a prior, unless there is a standing."""
    await connection.execute(query("waitlist_offer.found_standing"), taken, decided)


async def standing(connection: Any) -> tuple[float, float, int] | None:
    """Taken of decided, and entries when they were last counted; None before the worker's first start."""
    row = await connection.fetchrow(query("waitlist_offer.standing"))
    return None if row is None else (row["taken"], row["decided"], row["entries"])


async def lock_standing(connection: Any) -> tuple[float, float] | None:
    """Taken of decided, and nobody notes anything until the transaction ends."""
    row = await connection.fetchrow(query("waitlist_offer.lock_standing"))
    return None if row is None else (row["taken"], row["decided"])


async def note_standing(connection: Any, taken: float, decided: float) -> None:
    """Write what was locked."""
    await connection.execute(query("waitlist_offer.note"), taken, decided)


async def count_entries(connection: Any) -> None:
    """Count the entries that wait, for the bound of the deployment."""
    await connection.execute(query("waitlist_offer.count_entries"))


async def forget(connection: Any, before: datetime, limit: int) -> int:
    """Delete entries and lots closed before, and old tellings, at most ``limit`` of each; how many rows."""
    names = ("waitlist_entry.forget", "waitlist_lot.forget", "waitlist_entry.forget_told")
    return sum([rows_of(await connection.execute(query(name), before, limit)) for name in names])


def _uuids(keys: Iterable[bytes]) -> list[UUID]:
    return [UUID(bytes=key) for key in keys]


def _form(row: Any) -> Form:
    return Form(row["kind"], row["shape"], row["size"])


def _decided(rows: Iterable[Any]) -> list[Decided]:
    return [Decided(row["id"], row["entry"], row["opened_at"]) for row in rows]
