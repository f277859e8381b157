"""The board: every session's seat mask in this process's memory.

Applying an event sets or clears bits and is idempotent: a mask that was read after an event, and is then told
of it again, ends right once the events up to the reading have been applied. A session that is not loaded has
no free seat. The board never decides: Redis may refuse what it shows.
"""

from collections.abc import Iterable

from engine.domain import seats
from engine.domain.capacity import Session
from engine.domain.course import Appointment
from engine.inventory import codec

# What an event tells of seats in its own partition.
OWN = (codec.TAKEN, codec.RELEASED)


class Stock:
    """One session's seats: ``free`` is the number of 1 bits of ``mask``."""

    __slots__ = ("free", "location", "mask", "session", "width")

    def __init__(self, session: int, location: int, width: int) -> None:
        self.session = session
        self.location = location
        self.width = width
        self.mask = bytearray()
        self.free = 0


class Board:
    """The stocks of the sessions that are known.

    ``versions`` counts, by location, how often a session there ran out or had seats again: what is derived
    from "which sessions have any" stays right while the version stands.
    """

    def __init__(self, sessions: Iterable[Session]) -> None:
        self._stocks = {s.id: Stock(s.id, s.location, s.width) for s in sessions}
        self.versions = dict.fromkeys((stock.location for stock in self._stocks.values()), 0)
        self.unknown_sessions = 0

    def stock(self, session: int) -> Stock | None:
        """The session's seats, or None where it is not known."""
        return self._stocks.get(session)

    def stocks(self) -> Iterable[Stock]:
        """Every stock there is."""
        return self._stocks.values()

    def free_in_slot(self, session: int, slot: int) -> int:
        """Free seats of one slot; 0 for a session that is not known."""
        stock = self._stocks.get(session)
        return 0 if stock is None else seats.free_in_slot(stock.mask, stock.width, slot)

    def load(self, session: int, width: int, mask: bytes) -> None:
        """Replace the session's seats by what Redis has; an empty mask takes it off sale."""
        stock = self._stocks.get(session)
        if stock is None:
            return
        had_seats = stock.free > 0
        stock.width, stock.mask, stock.free = width, bytearray(mask), seats.count_free(mask)
        if had_seats != (stock.free > 0):
            self.versions[stock.location] += 1

    def apply(self, entries: Iterable[codec.Entry]) -> None:
        """Follow one event. What it tells of seats elsewhere, their own partition tells as well."""
        for entry in entries:
            if entry.verb not in OWN:
                continue
            stock = self._stocks.get(entry.appointment.session)
            if stock is None:
                self.unknown_sessions += 1
            elif entry.verb == codec.TAKEN:
                self._take(stock, entry.appointment)
            else:
                self._release(stock, entry.appointment)

    def _take(self, stock: Stock, appointment: Appointment) -> None:
        if not _holds(stock, appointment) or not _is_free(stock, appointment):
            return
        seats.set_taken(stock.mask, stock.width, appointment.slot, appointment.seat)
        stock.free -= 1
        if stock.free == 0:
            self.versions[stock.location] += 1

    def _release(self, stock: Stock, appointment: Appointment) -> None:
        if not _holds(stock, appointment) or _is_free(stock, appointment):
            return
        seats.set_free(stock.mask, stock.width, appointment.slot, appointment.seat)
        stock.free += 1
        if stock.free == 1:
            self.versions[stock.location] += 1


def _holds(stock: Stock, appointment: Appointment) -> bool:
    return (appointment.slot + 1) * stock.width <= len(stock.mask)


def _is_free(stock: Stock, appointment: Appointment) -> bool:
    return seats.is_free(stock.mask, stock.width, appointment.slot, appointment.seat)
