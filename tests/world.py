"""A tiny country in a real Redis, and the protocol driven by hand, one call at a time.

``World`` plays a process and the network: it executes calls, loses replies, delivers copies late.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from engine.booking.book import Request, Seeker, book
from engine.booking.cancel import cancel
from engine.booking.outcomes import BookOutcome
from engine.booking.steps import Call, Placement, Steps
from engine.domain import seats
from engine.domain.course import CourseId, Kind, Op, Wish
from engine.inventory import codec, library
from engine.outbox.settle import settlements
from engine.redis.keyspace import Keyspace

EPOCH = 1
FAR_MS = 2**50
DOSE_2_SESSIONS = 1000


class Location(msgspec.Struct, frozen=True):
    """A location with one session for each dose."""

    id: int
    slots: int
    lines: int

    @property
    def sessions(self) -> tuple[int, int]:
        """Session of dose 1, session of dose 2."""
        return self.id, self.id + DOSE_2_SESSIONS


class World:
    """Redis with the library loaded, its partitions founded, and a few locations open."""

    def __init__(self, redis: Any, partitions: int, locations: tuple[Location, ...]) -> None:
        self.redis = redis
        self.keyspace = Keyspace(partitions)
        self.placement = Placement(self.keyspace, lambda _: FAR_MS)
        self.locations = {location.id: location for location in locations}
        redis.flushall()
        redis.function_load(library.source(), replace=True)
        for partition in range(partitions):
            redis.fcall("dosebook_found", 1, self.keyspace.outbox(partition), EPOCH)
        for location in locations:
            for session in location.sessions:
                mask = bytes(seats.all_free(location.slots, location.lines))
                record = codec.open_session(session, seats.width_of(location.lines), mask)
                self.step(self.keyspace.of_location(location.id), record)

    def step(self, partition: int, *records: bytes) -> list[bytes]:
        """One call to the script; the answers without clock and last event."""
        reply = self.redis.fcall("dosebook_step", 1, self.keyspace.outbox(partition), EPOCH, *records)
        answers: list[bytes] = reply[2:]
        return answers

    def execute(self, call: Call) -> bytes:
        """Execute one call of a use case."""
        return self.step(call.partition, call.record)[0]

    def run(self, steps: Steps[Any]) -> Any:
        """Drive a use case to its outcome, nothing going wrong."""
        answer = b""
        try:
            call = next(steps)
            while True:
                answer = self.execute(call)
                call = steps.send(answer if call.awaited else b"")
        except StopIteration as end:
            return end.value

    def request(self, person: int, location: int, slots: tuple[int, int] = (0, 0), key: str = "") -> Request:
        """A request of a person, by small numbers; the op's digest follows from what is asked."""
        wishes = tuple(
            Wish(dose, session, slot)
            for dose, session, slot in zip((1, 2), self.locations[location].sessions, slots, strict=True)
        )
        digest = f"{location}{slots}".encode().ljust(8)[:8]
        seeker = Seeker(person_key(person), Kind.PRIMARY, wishes)
        return Request(Op(key.encode().ljust(8, b"-"), digest), location, (seeker,))

    def book(self, *args: Any, **kwargs: Any) -> BookOutcome:
        """Book, nothing going wrong; arguments of ``request``."""
        outcome: BookOutcome = self.run(book(self.request(*args, **kwargs), self.placement))
        return outcome

    def run_cancel_of(self, person: int, location: int, generation: int = 1) -> Any:
        """Cancel a person's course, nothing going wrong."""
        course = CourseId(person_key(person), Kind.PRIMARY, generation)
        op = Op(b"cancel%d" % (generation % 10) + b"-", b"cancel--")
        return self.run(cancel(course, location, op, self.placement))

    def settle_all(self) -> None:
        """What the outbox consumer does for the guards, for every event there is."""
        for partition in range(self.keyspace.partitions):
            for _, event in self.events(partition):
                for guard_or_part, record in settlements(event, self.keyspace):
                    self.step(guard_or_part, record)

    def mask(self, session: int) -> bytes:
        """Seat mask of a session as it is in Redis."""
        partition = self.keyspace.of_location(session % DOSE_2_SESSIONS)
        return codec.stock(self.redis.get(self.keyspace.session(partition, session)))[2]

    def free(self, session: int) -> int:
        """Free seats of a session."""
        return seats.count_free(self.mask(session))

    def courses(self) -> dict[CourseId, codec.CourseRecord]:
        """Every course record of every partition."""
        found = {}
        for partition in range(self.keyspace.partitions):
            for key in self.redis.scan_iter(self.keyspace.people(partition), count=1000):
                for field, record in self.redis.hgetall(key).items():
                    if codec.is_course(field):
                        found[codec.course_field(field)] = codec.course(record)
        return found

    def guard(self, person: int) -> codec.Guard | None:
        """A person's guard."""
        key = person_key(person)
        answer = self.step(self.keyspace.of_person(key), codec.read_guard(key, Kind.PRIMARY))[0]
        return codec.guard(answer[1:]) if answer[:1] == b"V" else None

    def events(self, partition: int, after: int = -1) -> Iterator[tuple[int, codec.Event]]:
        """``(sequence, event)`` of a partition's outbox."""
        for entry, fields in self.redis.xrange(self.keyspace.outbox(partition)):
            sequence = int(entry.partition(b"-")[2])
            if sequence > after:
                yield sequence, codec.event(fields[b"e"])


def person_key(number: int) -> bytes:
    """A person key by a small number; the partition follows from its end."""
    return b"person".ljust(12, b".") + number.to_bytes(4, "little")
