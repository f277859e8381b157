"""Replays traces against the real scripts; whatever is not as the model says is a difference."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

from engine.inventory import codec, library
from tests.simulation.history import History
from tests.simulation.model import CourseState, GuardState, PartitionModel
from tests.world import EPOCH, FAR_MS

# One command of the replay with what it must answer. A step's answer is compared without its last event's id;
# those are read whole at the end, with everything else in the outbox.
Planned = tuple[tuple[Any, ...], Any]


class Replayer:
    """One Redis that plays traces, each from an empty start."""

    def __init__(self, redis: Any) -> None:
        self._redis = redis
        redis.function_load(library.source(), replace=True)

    def difference(self, history: History) -> str | None:
        """The first difference in words, or None."""
        planned = [*_beginning(history), *_steps(history), *_end(history)]
        pipeline = self._redis.pipeline(transaction=False)
        for command, _ in planned:
            pipeline.execute_command(*command)
        for (_, wanted), reply in zip(planned, pipeline.execute(raise_on_error=False), strict=True):
            got = [reply[0], *reply[2:]] if _is_step(reply) else reply
            if got != wanted:
                return f"the model says {wanted!r}, the scripts say {got!r}"
        return None


def _is_step(reply: Any) -> bool:
    return isinstance(reply, list) and bool(reply) and isinstance(reply[0], int)


def _beginning(history: History) -> Iterator[Planned]:
    yield ("FLUSHALL",), True
    for partition in range(history.keyspace.partitions):
        yield ("FCALL", "dosebook_found", 1, history.keyspace.outbox(partition), EPOCH), 1


def _steps(history: History) -> Iterator[Planned]:
    for (partition, now_ms), entries in groupby(history.trace, lambda entry: (entry.partition, entry.now_ms)):
        call = list(entries)
        yield _clock(history, partition, now_ms)
        records = [entry.record for entry in call]
        yield _step(history, partition, records), [now_ms, *(entry.answer for entry in call)]


def _end(history: History) -> Iterator[Planned]:
    for partition, model in enumerate(history.partitions):
        if model.now_ms:
            yield _clock(history, partition, model.now_ms)
            yield _step(history, partition, _reads(model)), [model.now_ms, *_records(model)]
        entries = [(b"%d-%d" % (EPOCH, n), {b"e": event}) for n, event in enumerate(model.events)]
        yield ("XRANGE", history.keyspace.outbox(partition), "-", "+"), entries


def _clock(history: History, partition: int, now_ms: int) -> Planned:
    """Set a partition's clock, and its host's back behind it: so it stands still for the next call."""
    return ("HMSET", history.keyspace.meta(partition), "clock", now_ms, "host", FAR_MS), True


def _step(history: History, partition: int, records: list[bytes]) -> tuple[Any, ...]:
    return ("FCALL", "dosebook_step", 1, history.keyspace.outbox(partition), EPOCH, *records)


def _reads(model: PartitionModel) -> list[bytes]:
    guards = [codec.read_guard(person, kind) for person, kind in model.guards]
    return guards + [codec.read_course(course) for course in model.courses]


def _records(model: PartitionModel) -> list[bytes]:
    records = [*map(_guard, model.guards.values()), *map(_course, model.courses.values())]
    return [b"V" + record for record in records]


def _guard(guard: GuardState) -> bytes:
    head = codec.GUARD_RECORD.pack(guard.state.encode(), guard.generation, guard.location, guard.op)
    return head + b"".join(codec.MEMORY.pack(*memory) for memory in guard.memories)


def _course(course: CourseState) -> bytes:
    head = codec.COURSE_RECORD.pack(course.state.encode(), course.op, len(course.appointments))
    seats = b"".join(codec.APPOINTMENT.pack(a.dose, a.session, a.slot, a.seat) for a in course.appointments)
    return head + seats + course.cancelled_by
