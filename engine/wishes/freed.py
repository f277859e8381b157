"""Who gave a seat back lately: nobody is offered the seat that they gave up themselves.

Two sources. What this process saw on the outboxes since it loaded a partition, and what Postgres has; the
first is quick, the second reaches further back. Where Postgres has not yet what the partition had when it was
loaded, neither knows: then the question is a fault, and is asked again.
"""

from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from engine import limits
from engine.domain.course import Kind
from engine.errors import StorageAway
from engine.inventory import codec
from engine.storage.pool import FAULTS
from engine.storage.queries import query
from engine.waitlist.needs import Freed
from engine.waitlist.wakes import Wakes


class Freers:
    """What this process saw. ``is_covered(session)``: whether Postgres has what came before."""

    def __init__(self, pool: Any, wakes: Wakes, is_covered: Callable[[int], bool]) -> None:
        self._pool = pool
        self._wakes = wakes
        self._is_covered = is_covered
        self._seen: OrderedDict[tuple[int, int, bytes], None] = OrderedDict()
        self._by_slot: defaultdict[Freed, set[bytes]] = defaultdict(set)

    def saw(self, event: codec.Event) -> None:
        """An event of an outbox: note who gives seats back, and wake the waitlist."""
        for seat in event.seats(codec.RELEASED):
            if event.course.kind != Kind.OFFER:
                self._note(Freed(seat.session, seat.slot), event.course.person)
            self._wakes.add(seat.session, seat.slot)

    async def __call__(self, slots: Sequence[Freed]) -> set[bytes]:
        """The person keys that gave up a seat of these slots. Raises ``StorageAway``."""
        if not all(self._is_covered(slot.session) for slot in slots):
            raise StorageAway("Postgres does not have yet what was given back before this process began")
        try:
            rows = await self._pool.fetch(
                query("appointment.freed_by"),
                [slot.session for slot in slots],
                [slot.slot for slot in slots],
                timedelta(seconds=limits.FREED_BY_S),
            )
        except FAULTS as error:
            raise StorageAway(f"Postgres did not say who gave seats back: {type(error).__name__}") from error
        seen = (self._by_slot.get(slot, set()) for slot in slots)
        return {bytes(row[0]) for row in rows}.union(*seen)

    def _note(self, freed: Freed, person: bytes) -> None:
        """The oldest is forgotten for it beyond the bound: Postgres has it by then."""
        self._seen[freed.session, freed.slot, person] = None
        self._by_slot[freed].add(person)
        if len(self._seen) > limits.FREERS_MAX:
            (session, slot, oldest), _ = self._seen.popitem(last=False)
            of_slot = self._by_slot[Freed(session, slot)]
            of_slot.discard(oldest)
            if not of_slot:
                del self._by_slot[Freed(session, slot)]
