"""What an event asks of other partitions: guards learn of their courses, parts of their homes.

Each operation is idempotent, and none decides anything: the event's own partition has decided.
"""

from collections.abc import Iterator

from engine.inventory import codec
from engine.redis.keyspace import Keyspace


def settlements(event: codec.Event, keyspace: Keyspace) -> Iterator[tuple[int, bytes]]:
    """``(partition, operation)``; one for the event's own partition changes nothing."""
    guard = keyspace.of_person(event.course.person)
    if event.type in codec.BEGINS:
        yield guard, codec.settle(event.course)
    elif event.type in codec.ENDS:
        yield guard, codec.free(event.course)
    for entry in event.entries:
        seat = entry.appointment
        if entry.verb == codec.JOINED:
            yield seat.where, codec.keep(codec.PartId(event.course, seat.dose, seat.revision))
        elif entry.verb == codec.LEFT:
            yield seat.where, codec.quit_part(codec.PartId(event.course, seat.dose, seat.revision))
