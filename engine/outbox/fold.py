"""Folds a batch of events: a course that was booked and cancelled in it is written once, as cancelled.

Folding must not hide a broken proof, so events are gone through in their order, and a seat or a person that
is taken while it is held breaks the event that takes it, even if it is released later in the batch. What
the batch cannot know (rows committed before) is proved by ``sql/batch.sql`` in the same transaction.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from enum import StrEnum
from itertools import takewhile

from engine.domain.course import Appointment, CourseId
from engine.inventory import codec
from engine.outbox.feed import Entry

Place = tuple[int, int, int]


class Broken(StrEnum):
    """The proof that an event broke: the ``reason`` of its row in quarantine."""

    UNREADABLE = "unreadable"
    MALFORMED = "malformed"
    COURSE_REPEATED = "course-repeated"
    COURSE_NOT_LIVE = "course-not-live"
    UNREGISTERED_PERSON = "unregistered-person"
    UNKNOWN_SESSION = "unknown-session"
    SEAT_NOT_ON_SALE = "seat-not-on-sale"
    SEAT_TAKEN = "seat-taken"
    PERSON_LIVE = "person-live"


class Taken:
    """A course booked in this batch, and cancelled in it if ``cancelled_ms`` is not 0."""

    __slots__ = ("cancel_number", "cancel_op", "cancelled_ms", "event", "number")

    def __init__(self, number: int, event: codec.Event) -> None:
        self.number = number
        self.event = event
        self.cancelled_ms = 0
        self.cancel_number = -1
        self.cancel_op = codec.NO_OP


class Released:
    """A course of an earlier batch, cancelled in this one."""

    __slots__ = ("event", "number")

    def __init__(self, number: int, event: codec.Event) -> None:
        self.number = number
        self.event = event


class Fold:
    """A folded batch. An event's number is its index in ``entries``; each partition's are in their order."""

    def __init__(self, entries: Mapping[int, Iterable[Entry]]) -> None:
        self.entries: list[Entry] = [entry for partition in sorted(entries) for entry in entries[partition]]
        self.events: list[codec.Event | None] = [_event(entry) for entry in self.entries]
        self.taken: dict[CourseId, Taken] = {}
        self.released: dict[CourseId, Released] = {}
        self.broken: dict[int, Broken] = {}
        self._seats: set[Place] = set()
        self._persons: set[tuple[int, bytes, int]] = set()
        for number, event in enumerate(self.events):
            self._add(number, event)
        self._compare_partitions()

    def _add(self, number: int, event: codec.Event | None) -> None:
        if event is None:
            self.broken[number] = Broken.UNREADABLE
            return
        broken = self._take(number, event) if event.type == b"b" else self._release(number, event)
        if broken:
            self.broken[number] = broken

    def _take(self, number: int, event: codec.Event) -> Broken | None:
        places = [(a.session, a.slot, a.seat) for a in event.appointments]
        person = (self.entries[number].partition, event.course.person, event.course.kind)
        if broken := self._broken_take(event, places, person):
            return broken
        self.taken[event.course] = Taken(number, event)
        self._seats.update(places)
        self._persons.add(person)
        return None

    def _broken_take(
        self, event: codec.Event, places: list[Place], person: tuple[int, bytes, int]
    ) -> Broken | None:
        if (
            not places
            or len({a.dose for a in event.appointments}) < len(places)
            or len(set(places)) < len(places)
        ):
            return Broken.MALFORMED
        if event.course in self.taken or event.course in self.released:
            return Broken.COURSE_REPEATED
        if not self._seats.isdisjoint(places):
            return Broken.SEAT_TAKEN
        return Broken.PERSON_LIVE if person in self._persons else None

    def _release(self, number: int, event: codec.Event) -> Broken | None:
        taken = self.taken.get(event.course)
        if taken is None and event.course not in self.released:
            self.released[event.course] = Released(number, event)
            return None
        if taken is None or taken.cancelled_ms:
            return Broken.COURSE_NOT_LIVE
        taken.cancelled_ms, taken.cancel_number, taken.cancel_op = event.at_ms, number, event.op
        self._seats.difference_update((a.session, a.slot, a.seat) for a in taken.event.appointments)
        self._persons.discard((self.entries[number].partition, event.course.person, event.course.kind))
        return None

    def _compare_partitions(self) -> None:
        """One person live in two partitions: the later generation breaks the proof."""
        live: defaultdict[tuple[bytes, int], list[Taken]] = defaultdict(list)
        for course, taken in self.taken.items():
            if not taken.cancelled_ms:
                live[course.person, course.kind].append(taken)
        for rivals in live.values():
            if len(rivals) > 1:
                rivals.sort(key=lambda taken: taken.event.course.generation)
                for taken in rivals[1:]:
                    self.broken[taken.number] = Broken.PERSON_LIVE
                    del self.taken[taken.event.course]

    def reject(self, number: int, reason: Broken) -> None:
        """Take an event out that broke a proof of the tables, and the cancellation folded into it."""
        self.broken.setdefault(number, reason)
        event = self.events[number]
        if event is None:
            return
        if event.type == b"x":
            self.released.pop(event.course, None)
            return
        taken = self.taken.pop(event.course, None)
        if taken is not None and taken.cancelled_ms:
            self.broken.setdefault(taken.cancel_number, Broken.COURSE_NOT_LIVE)


def appointments_of(taken: Iterable[Taken]) -> Iterable[tuple[int, Appointment]]:
    """Every appointment with the number of its event."""
    return ((item.number, appointment) for item in taken for appointment in item.event.appointments)


def without(entries: Mapping[int, list[Entry]], first: Iterable[Entry]) -> dict[int, list[Entry]]:
    """The batch without these entries and what follows them in their partitions."""
    cuts: dict[int, int] = {}
    for entry in first:
        cuts[entry.partition] = min(entry.sequence, cuts.get(entry.partition, entry.sequence))
    kept = {
        partition: [entry for entry in items if partition not in cuts or entry.sequence < cuts[partition]]
        for partition, items in entries.items()
    }
    return {partition: items for partition, items in kept.items() if items}


def not_younger(entries: Mapping[int, list[Entry]], cut: Iterable[int]) -> dict[int, list[Entry]]:
    """The batch up to where the earliest of the cut partitions was cut, by the partitions' clocks.

    On one server all partitions have one clock, so this is a consistent cut. It never is empty: the earliest
    cut partition keeps all that was read of it.
    """
    ends = {partition: _at_ms(entries[partition][-1]) for partition in cut}
    if not ends:
        return dict(entries)
    horizon = min(ends.values())
    kept = {
        partition: items
        if ends.get(partition) == horizon
        else list(takewhile(lambda entry: _at_ms(entry) < horizon, items))
        for partition, items in entries.items()
    }
    return {partition: items for partition, items in kept.items() if items}


def _at_ms(entry: Entry) -> int:
    """When it happened; 0 for what cannot be read, which waits for nobody."""
    event = _event(entry)
    return 0 if event is None else event.at_ms


def _event(entry: Entry) -> codec.Event | None:
    try:
        event = codec.event(entry.payload)
    except ValueError:
        return None
    return event if event.type in (b"b", b"x") and 0 < event.at_ms < AT_MS_END else None


# The year 2200: a later event, or one before the epoch, is not one of ours.
AT_MS_END = 7_258_118_400_000
