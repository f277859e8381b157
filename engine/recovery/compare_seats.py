"""Compares who has which seat: masks, courses, parts away from home, and Postgres. Pure."""

from collections.abc import Iterable, Iterator

from engine.domain.course import HERE
from engine.domain.seats import is_free
from engine.inventory import codec
from engine.recovery.differences import Difference, Seat, is_live, owner_words, part_words, seat_words
from engine.recovery.evidence import Evidence, Owner, SessionRow, Stored, owner_of

SET_ASIDE = b"s"
Seats = dict[int, dict[tuple[int, int], Owner]]


def parts(evidence: Evidence) -> Iterator[Difference]:
    """Seats away from home: each against what its home lists, and against Postgres."""
    listed = {owner: seat for owner, seat in _owned_by_courses(evidence) if owner[0] != HERE}
    for owner, stored in evidence.parts.items():
        part, seat = codec.part(stored.record), _seat_of(stored)
        if part.state == SET_ASIDE:
            words = f"{part_words(owner, seat)} is set aside, its home has not decided"
            yield Difference("in_doubt", ("part", owner), words)
        elif listed.get(owner) != seat:
            words = f"{part_words(owner, seat)} is kept, its course does not list it"
            yield Difference("half_booked", ("part", owner), words)
    for owner, seat in listed.items():
        own = evidence.parts.get(owner)
        if own is None or _seat_of(own) != seat:
            words = f"{part_words(owner, seat)} is listed by its course, and not kept for it"
            yield Difference("half_booked", ("part", owner), words)
    yield from _part_rows(evidence)


def _part_rows(evidence: Evidence) -> Iterator[Difference]:
    in_redis = {owner: _seat_of(stored) for owner, stored in evidence.parts.items()}
    in_postgres = {owner: (row.session, row.slot, row.seat) for owner, row in evidence.part_rows.items()}
    for owner in in_redis.keys() | in_postgres.keys():
        if in_redis.get(owner) != in_postgres.get(owner):
            told = (
                f"{part_words(owner, seats[owner]) if owner in seats else 'nothing'} in {store}"
                for store, seats in (("Redis", in_redis), ("Postgres", in_postgres))
            )
            yield Difference("drift", ("part", owner), ", ".join(told))


def _seat_of(stored: Stored) -> Seat:
    part = codec.part(stored.record)
    return part.session, part.slot, part.seat


# Seats ------------------------------------------------------------------------------------------------------


def seats_sold(evidence: Evidence) -> Iterator[Difference]:
    """Seats sold twice or not on sale, then every stock against what is sold."""
    in_redis: Seats = {}
    in_postgres: Seats = {}
    yield from _sold_twice(in_redis, _owned_in_redis(evidence))
    yield from _sold_twice(in_postgres, _owned_in_postgres(evidence))
    for sold in (in_redis, in_postgres):
        for session, seats in sold.items():
            yield from _not_on_sale(session, seats, evidence.sessions.get(session))
    for session, row in evidence.sessions.items():
        yield from _stock(session, row, in_redis.get(session, {}))
    for name in evidence.strangers:
        yield Difference("drift", ("stock", name), f"Redis has {name.decode()}, Postgres has no such session")


def _owned_by_courses(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    for key, stored in evidence.courses.items():
        if is_live(stored.record):
            for one in codec.course(stored.record).appointments:
                yield owner_of(key, one.where, one.dose, one.revision), (one.session, one.slot, one.seat)


def _owned_in_redis(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    """Every seat that somebody has. A course that lists a seat elsewhere and its part are one owner."""
    yield from _owned_by_courses(evidence)
    for owner, stored in evidence.parts.items():
        yield owner, _seat_of(stored)


def _owned_in_postgres(evidence: Evidence) -> Iterator[tuple[Owner, Seat]]:
    for key, row in evidence.rows.items():
        for packed in (row.live, row.appointments if row.is_live else b""):
            for dose, place, revision, *seat in codec.APPOINTMENT.iter_unpack(packed):
                yield owner_of(key, place, dose, revision), (seat[0], seat[1], seat[2])
    for owner, part in evidence.part_rows.items():
        yield owner, (part.session, part.slot, part.seat)


def _sold_twice(sold: Seats, owned: Iterable[tuple[Owner, Seat]]) -> Iterator[Difference]:
    """Fill ``sold``; every seat that has two owners."""
    for owner, (session, slot, seat) in owned:
        holder = sold.setdefault(session, {}).setdefault((slot, seat), owner)
        if holder != owner:
            both = f"{owner_words(holder)} and to {owner_words(owner)}"
            words = f"{seat_words(session, slot, seat)} is sold to {both}"
            yield Difference("oversold", (session, slot, seat), words)


def _not_on_sale(
    session: int, seats: dict[tuple[int, int], Owner], row: SessionRow | None
) -> Iterator[Difference]:
    for (slot, seat), owner in seats.items():
        if row is None or not _has(row, slot, seat) or not is_free(row.on_sale, row.width, slot, seat):
            words = f"{seat_words(session, slot, seat)} is sold to {owner_words(owner)}, and is not on sale"
            yield Difference("oversold", (session, slot, seat), words)


def _has(row: SessionRow, slot: int, seat: int) -> bool:
    return seat < 8 * row.width and (slot + 1) * row.width <= len(row.on_sale)


def _stock(session: int, row: SessionRow, sold: dict[tuple[int, int], Owner]) -> Iterator[Difference]:
    """A stock must be the seats on sale without those that are sold."""
    if row.stock is None:
        yield Difference("drift", ("stock", session), f"session {session} has no stock in Redis")
        return
    state, width, mask = codec.stock(row.stock) if len(row.stock) > 1 else (b"", 0, b"")
    if state != b"o" or width != row.width or len(mask) != len(row.on_sale):
        yield Difference("drift", ("stock", session), f"the stock of session {session} has another shape")
        return
    wanted = bytearray(row.on_sale)
    for slot, seat in sold:
        if _has(row, slot, seat):
            wanted[slot * width + seat // 8] &= ~(1 << seat % 8) & 0xFF
    if mask != wanted:
        yield from _wrong_bits(session, width, mask, wanted)


def _wrong_bits(session: int, width: int, mask: bytes, wanted: bytearray) -> Iterator[Difference]:
    for at, (byte, good) in enumerate(zip(mask, wanted, strict=True)):
        for bit in range(8):
            if (byte ^ good) >> bit & 1:
                slot, seat = at // width, at % width * 8 + bit
                has = "free" if byte >> bit & 1 else "taken"
                why = "sold or not on sale" if has == "free" else "on sale and sold to nobody"
                words = f"{seat_words(session, slot, seat)} is {has} in Redis, but {why}"
                yield Difference("drift", ("seat", session, slot, seat), words)
