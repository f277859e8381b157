"""Drawing slots with free seats: every reader another, so that people do not collide on the first.

Pure: the stock and the source of chance are arguments. A slot that is drawn had the seats when the stock was
read; Redis may refuse it. Nothing fails: where nothing is free, nothing is drawn.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import msgspec

from engine.availability.board import Stock
from engine.domain import seats
from engine.domain.capacity import Session
from engine.domain.course import Wish

_DRAWS_MAX = 4

Chance = Callable[[], float]
"""Draws a number from 0 to below 1, as ``random.Random().random``."""

Seating = tuple[tuple[int, int], ...]
"""For each person, in the order of time: a slot, and the seats that were free in it."""

T = TypeVar("T")


class Choice(msgspec.Struct, frozen=True, gc=False):
    """One dose's slot, with the seats that were free in it."""

    dose: int
    session: int
    slot: int
    free: int

    @property
    def wish(self) -> Wish:
        """What to ask Redis for."""
        return Wish(self.dose, self.session, self.slot)


def first_slot_after(session: Session, now: datetime) -> int:
    """The first slot that begins after ``now``; ``session.slots`` or more where all have begun."""
    elapsed = now - session.starts_at
    return 0 if elapsed.days < 0 else elapsed // timedelta(minutes=session.slot_minutes) + 1


def pick_slot(dose: int, stock: Stock, first_slot: int, chance: Chance) -> Choice | None:
    """A slot with a free seat, ``first_slot`` or later, each as likely as any other; None for none."""
    mask, width = stock.mask, stock.width
    count = len(mask) // width - first_slot
    if count <= 0 or not stock.free:
        return None
    for _ in range(_DRAWS_MAX):
        slot = first_slot + int(chance() * count)
        free = seats.free_in_slot(mask, width, slot)
        if free:
            return Choice(dose, stock.session, slot, free)
    slots = [slot for slot in seats.free_slots(mask, width) if slot >= first_slot]
    if not slots:
        return None
    slot = slots[int(chance() * len(slots))]
    return Choice(dose, stock.session, slot, seats.free_in_slot(mask, width, slot))


def seatings(
    stock: Stock, slots: Sequence[int], people: int, chance: Chance, using: int | None = None
) -> Iterator[Seating]:
    """Every way to seat so many people in the fewest neighbouring ones of these slots, in an order drawn.

    One person takes a slot. A household takes one slot where it can, else two that follow each other, and so
    on: never more slots than people, and only stretches of the shortest length that has enough seats.
    ``slots`` ascend. Somebody sits in the slot ``using`` if one is given.
    """
    if using is not None:
        slots = [slot for slot in slots if abs(slot - using) < people]
    if stock.free < people or not slots:
        return iter(())
    return _singles(stock, slots, chance) if people == 1 else _together(stock, slots, people, chance, using)


def shuffled(things: Sequence[T], weights: Sequence[float], chance: Chance) -> list[T]:
    """All of them in an order drawn; one of twice the weight comes first twice as often."""
    if len(things) < 2:
        return list(things)
    keys = [-(chance() ** (1 / weight)) for weight in weights]
    return [things[at] for at in sorted(range(len(things)), key=keys.__getitem__)]


def _singles(stock: Stock, slots: Sequence[int], chance: Chance) -> Iterator[Seating]:
    """A few draws first: mostly one is all that is wanted, and no slot need be counted."""
    mask, width, count = stock.mask, stock.width, len(slots)
    seen: set[int] = set()
    for _ in range(_DRAWS_MAX):
        slot = slots[int(chance() * count)]
        if slot not in seen:
            seen.add(slot)
            if free := seats.free_in_slot(mask, width, slot):
                yield ((slot, free),)
    rest = [slot for slot in slots if slot not in seen]
    rest.sort(key=lambda _: chance())
    for slot in rest:
        if free := seats.free_in_slot(mask, width, slot):
            yield ((slot, free),)


def _together(
    stock: Stock, slots: Sequence[int], people: int, chance: Chance, using: int | None
) -> Iterator[Seating]:
    counts = {slot: free for slot in slots if (free := seats.free_in_slot(stock.mask, stock.width, slot))}
    for length in range(1, people + 1):
        stretches = [range(first, first + length) for first in counts]
        found = [
            stretch
            for stretch in stretches
            if (using is None or using in stretch)
            and all(slot in counts for slot in stretch)
            and sum(counts[slot] for slot in stretch) >= people
        ]
        if found:
            found.sort(key=lambda _: chance())
            yield from (_seated(stretch, counts, people, using) for stretch in found)
            return


def _seated(stretch: range, counts: dict[int, int], people: int, using: int | None) -> Seating:
    """One seat for each person: in the slot that is to be used, else the earliest; told in order of time."""
    order = sorted(stretch, key=lambda slot: (slot != using, slot))
    places = [(slot, counts[slot]) for slot in order for _ in range(min(counts[slot], people))]
    return tuple(sorted(places[:people]))
