"""The transactions on lots, offers and the entries that have them. One call is one transaction.

Every change is a compare-and-set under the lot's row lock, taken in one order everywhere (lot, offers,
entries, standing): a call that comes twice, late, or at once with another changes nothing the second time,
and no two of them wait for each other. ``pool`` has ``acquire()``; faults of Postgres pass through.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any

import msgspec

from engine import limits
from engine.storage import waitlist as rows
from engine.storage.waitlist import Decided, LotRow, OfferRow
from engine.waitlist.acceptance import PRIOR_DECIDED, PRIOR_TAKEN, Acceptance, part_had
from engine.waitlist.states import EntryState, LotState, OfferState, Purpose

_UNTOLD = (OfferState.OPENING,)
_TOLD = (OfferState.OPEN,)
_LIVE = (OfferState.OPENING, OfferState.OPEN)


class Ledger:
    """The records of one deployment."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        async with self._pool.acquire() as connection, connection.transaction():
            yield connection

    # Acceptance ---------------------------------------------------------------------------------------------

    async def found(self) -> None:
        """Begin with the prior, once in the life of a deployment."""
        async with self._transaction() as connection:
            await rows.found_standing(connection, PRIOR_TAKEN, PRIOR_DECIDED)

    async def acceptance(self) -> Acceptance:
        """As measured so far."""
        async with self._transaction() as connection:
            standing = await rows.standing(connection)
        return Acceptance() if standing is None else Acceptance(standing[0], standing[1])

    # The way of a lot ---------------------------------------------------------------------------------------

    async def begin(self, lot: LotRow, entries: Sequence[int]) -> int | None:
        """A lot ``opening``, with an offer for each entry that still waits; None where none does."""
        async with self._transaction() as connection:
            waiting = await rows.mark_offered(connection, entries)
            if not waiting:
                return None
            number = await rows.insert_lot(connection, lot)
            await rows.insert_offers(connection, number, waiting, lot.session, lot.slot)
            return number

    async def opening(self, lot: int) -> list[tuple[int, tuple[bytes, ...]]]:
        """Entries whom the lot will be offered to, with their people."""
        async with self._transaction() as connection:
            return await rows.opening_offers(connection, lot)

    async def open(self, lot: int, booked: Collection[int], now: datetime) -> None:
        """``opening`` → ``open``: from here on they may be told. ``booked``: entries that need none any more.

        Where nobody is left, the lot closes.
        """
        async with self._transaction() as connection:
            if await rows.lock_lot(connection, lot) != LotState.OPENING:
                return
            await _close_booked(connection, lot, booked, now)
            opened = await rows.open_offers(connection, lot, now)
            after = LotState.OPEN if opened else LotState.CLOSING
            await rows.move_lot(connection, lot, LotState.OPENING, after, now)

    async def give_up(self, lot: int, after: LotState, now: datetime) -> None:
        """``opening`` → ``closing``, or ``closed`` where nothing is held: nobody was told."""
        async with self._transaction() as connection:
            if await rows.lock_lot(connection, lot) != LotState.OPENING:
                return
            withdrawn = await rows.decide_all(connection, lot, _UNTOLD, OfferState.WITHDRAWN, now)
            await rows.wait_again(connection, _entries(withdrawn))
            await rows.move_lot(connection, lot, LotState.OPENING, after, now)

    async def run_out(self, lot: int, now: datetime) -> bool:
        """``open`` → ``closing``; what is open has expired. Not as long as an acceptance is under way."""
        async with self._transaction() as connection:
            if await rows.lock_lot(connection, lot) != LotState.OPEN:
                return True
            if await rows.offers_of(connection, lot, OfferState.ACCEPTING):
                return False
            expired = await rows.decide_all(connection, lot, _TOLD, OfferState.EXPIRED, now)
            await rows.wait_again(connection, _entries(expired))
            await rows.move_lot(connection, lot, LotState.OPEN, LotState.CLOSING, now)
            await _note(connection, 0, float(len(expired)))
            return True

    async def close(self, lot: int, now: datetime) -> None:
        """``closing`` → ``closed``: its hold is gone."""
        async with self._transaction() as connection:
            await rows.move_lot(connection, lot, LotState.CLOSING, LotState.CLOSED, now)

    # What people do -----------------------------------------------------------------------------------------

    async def accept(self, offer: int, key: str, now: datetime) -> OfferRow | None:
        """``open`` → ``accepting`` under this key, in time only; the offer as it is then.

        An acceptance that has begun keeps the key that it began with. An offer out of time reads
        ``expired`` though the worker has still to write it.
        """
        async with self._transaction() as connection:
            found = await self._locked(connection, offer)
            if found is None or found.state != OfferState.OPEN:
                return found
            if now > found.deadline:
                return _as(found, OfferState.EXPIRED)
            await rows.begin_acceptance(connection, offer, key, now)
            return await rows.offer_of_id(connection, offer)

    async def accepted(self, offer: OfferRow, now: datetime) -> None:
        """``accepting`` → ``accepted``; the others of the lot are ``gone`` and keep their places."""
        async with self._transaction() as connection:
            lot = await self._lock_of(connection, offer)
            if not await rows.decide(
                connection, [offer.id], [OfferState.ACCEPTING], OfferState.ACCEPTED, now
            ):
                return
            gone = await rows.decide_all(connection, offer.lot, _TOLD, OfferState.GONE, now)
            await rows.wait_again(connection, _entries(gone))
            await rows.close_entries(connection, [offer.entry], EntryState.BOOKED, now)
            await rows.close_lot(connection, offer.lot, now)
            await _note(connection, 1, _missed(gone, lot, now))

    async def lost(self, offer: OfferRow, now: datetime) -> None:
        """``accepting`` → ``gone``: the hold is not there. So it is for the others, who keep their places."""
        async with self._transaction() as connection:
            lot = await self._lock_of(connection, offer)
            gone = await rows.decide(connection, [offer.id], [OfferState.ACCEPTING], OfferState.GONE, now)
            if not gone:
                return
            others = await rows.decide_all(connection, offer.lot, _TOLD, OfferState.GONE, now)
            await rows.wait_again(connection, _entries([*gone, *others]))
            await rows.move_lot(connection, offer.lot, LotState.OPEN, LotState.CLOSING, now)
            await _note(connection, 0, _missed(others, lot, now))

    async def impossible(self, offer: OfferRow, now: datetime) -> None:
        """``accepting`` → ``withdrawn``: the rules refuse it; the entry waits on."""
        async with self._transaction() as connection:
            await self._lock_of(connection, offer)
            before = [OfferState.ACCEPTING]
            withdrawn = await rows.decide(connection, [offer.id], before, OfferState.WITHDRAWN, now)
            await rows.wait_again(connection, _entries(withdrawn))

    async def refuse(self, offer: int, now: datetime) -> OfferRow | None:
        """``open`` → ``refused``; the entry keeps its place. The offer as it is then."""
        async with self._transaction() as connection:
            found = await self._locked(connection, offer)
            if found is None or found.state != OfferState.OPEN:
                return found
            refused = await rows.decide(connection, [offer], _TOLD, OfferState.REFUSED, now)
            await rows.wait_again(connection, _entries(refused))
            await _note(connection, 0, float(len(refused)))
            return _as(found, OfferState.REFUSED)

    async def end(
        self, entry: int, state: EntryState, now: datetime, *, concluded: bool = False
    ) -> str | None:
        """Close an entry, and withdraw its offer; the state that it is in then, None for an unknown one.

        ``offered`` means that an acceptance is under way: it has to be concluded before. With ``concluded``,
        that acceptance has just been found to be without effect, and is withdrawn too.
        """
        before = [*_LIVE, OfferState.ACCEPTING] if concluded else list(_LIVE)
        async with self._transaction() as connection:
            live = await rows.offer_of_entry(connection, entry)
            if live is not None:
                await rows.lock_lot(connection, live[1])
                await rows.decide(connection, [live[0]], before, OfferState.WITHDRAWN, now)
            now_in = await rows.lock_entry(connection, entry)
            # Offered something between the two looks, or an acceptance under way.
            if await rows.offer_of_entry(connection, entry) is not None:
                return now_in
            if now_in in (EntryState.WAITING, EntryState.OFFERED):
                await rows.close_entries(connection, [entry], state, now)
                return state
            return now_in

    # How ----------------------------------------------------------------------------------------------------

    async def _locked(self, connection: Any, offer: int) -> OfferRow | None:
        """The offer, read again behind its lot's lock."""
        found = await rows.offer_of_id(connection, offer)
        if found is None:
            return None
        await rows.lock_lot(connection, found.lot)
        return await rows.offer_of_id(connection, offer)

    async def _lock_of(self, connection: Any, offer: OfferRow) -> LotRow | None:
        await rows.lock_lot(connection, offer.lot)
        return await rows.lot_of_id(connection, offer.lot)

    async def lot(self, lot: int) -> LotRow | None:
        """The lot, or None."""
        async with self._transaction() as connection:
            return await rows.lot_of_id(connection, lot)

    async def offer(self, offer: int) -> OfferRow | None:
        """The offer, or None."""
        async with self._transaction() as connection:
            return await rows.offer_of_id(connection, offer)

    async def offer_of(self, entry: int) -> OfferRow | None:
        """The offer that an entry has now, or None."""
        async with self._transaction() as connection:
            found = await rows.offer_of_entry(connection, entry)
            return None if found is None else await rows.offer_of_id(connection, found[0])

    async def has_live_offers(self, lot: int) -> bool:
        """Whether somebody may still take the lot, or is taking it."""
        async with self._transaction() as connection:
            states = [
                await rows.offers_of(connection, lot, state)
                for state in (OfferState.OPEN, OfferState.ACCEPTING)
            ]
        return any(states)

    async def accepting(self, lot: int) -> list[OfferRow]:
        """The offers of a lot whose acceptance is under way."""
        async with self._transaction() as connection:
            offers = await rows.offers_of(connection, lot, OfferState.ACCEPTING)
            found = [await rows.offer_of_id(connection, offer) for offer in offers]
            return [offer for offer in found if offer is not None]

    async def members(self, entry: int) -> list[tuple[bytes, bytes]]:
        """Person keys and sealed facts."""
        async with self._transaction() as connection:
            return await rows.members(connection, entry)

    async def entries_of(self, people: Sequence[bytes], kind: int) -> list[int]:
        """Entries of these people that wait for seats."""
        async with self._transaction() as connection:
            return await rows.entries_of(connection, people, kind, Purpose.SEATS)

    async def due(self, now: datetime, stale: datetime) -> list[int]:
        """Lots that have to be driven on."""
        async with self._transaction() as connection:
            return await rows.due_lots(connection, now, stale, limits.WAITLIST_SLOTS_MAX)


async def _close_booked(connection: Any, lot: int, booked: Collection[int], now: datetime) -> None:
    """Withdraw the offers of entries that were booked before they were told, and close these."""
    if not booked:
        return
    offered = await rows.opening_offers(connection, lot)
    those = [entry for entry, _ in offered if entry in booked]
    for entry in those:
        offer = await rows.offer_of_entry(connection, entry)
        if offer is not None:
            await rows.decide(connection, [offer[0]], _UNTOLD, OfferState.WITHDRAWN, now)
    await rows.close_entries(connection, those, EntryState.BOOKED, now)


async def _note(connection: Any, taken: int, missed: float) -> None:
    """Measure: in the transaction that decides, so that each offer is counted once."""
    if not taken and not missed:
        return
    standing = await rows.lock_standing(connection)
    if standing is None:
        await rows.found_standing(connection, PRIOR_TAKEN, PRIOR_DECIDED)
        standing = await rows.lock_standing(connection)
    measured = Acceptance(*(standing or (PRIOR_TAKEN, PRIOR_DECIDED))).after(taken, missed)
    await rows.note_standing(connection, measured.taken, measured.decided)


def _missed(gone: Sequence[Decided], lot: LotRow | None, now: datetime) -> float:
    """What offers weigh that lost their seats: the parts of their time that they had."""
    if lot is None:
        return 0.0
    return sum(part_had(offer.opened_at, now, lot.deadline) for offer in gone if offer.opened_at)


def _entries(decided: Sequence[Decided]) -> list[int]:
    return sorted(offer.entry for offer in decided)


def _as(offer: OfferRow, state: OfferState) -> OfferRow:
    return msgspec.structs.replace(offer, state=state)
