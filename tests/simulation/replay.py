"""Replays traces against the real scripts; whatever is not as the model says is a difference."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any

import msgspec

from engine.inventory import codec, library
from tests.simulation.history import History
from tests.simulation.model import PartitionModel
from tests.world import EPOCH, FAR_MS, person_key

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
        planned = [*beginning(history), *_steps(history), *end(history)]
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


def beginning(history: History) -> Iterator[Planned]:
    """Found the partitions of an empty Redis."""
    yield ("FLUSHALL",), True
    for partition in range(history.keyspace.partitions):
        yield ("FCALL", "dosebook_found", 1, history.keyspace.outbox(partition), EPOCH), 1


def _steps(history: History) -> Iterator[Planned]:
    for (partition, now_ms), entries in groupby(history.trace, lambda entry: (entry.partition, entry.now_ms)):
        call = list(entries)
        yield clock(history, partition, now_ms)
        records = [entry.record for entry in call]
        yield step(history, partition, records), [now_ms, *(entry.answer for entry in call)]


def end(history: History) -> Iterator[Planned]:
    """Read everything: all of it is as the models have it."""
    for partition, model in enumerate(history.partitions):
        keyspace = history.keyspace
        # Every person's key begins alike, so that all of them share a bucket.
        yield ("HGETALL", keyspace.bucket(partition, person_key(0))), _people(model)
        holds = keyspace.prefix(partition) + b"holds"
        yield ("ZCARD", holds), len(model.holds)
        for course, until_ms in model.holds.items():
            yield ("ZSCORE", holds, codec.COURSE.pack(*msgspec.structs.astuple(course))), float(until_ms)
        for session, (width, mask) in model.stock.items():
            yield ("GET", keyspace.session(partition, session)), codec.SESSION.pack(b"o", width) + bytes(mask)
        entries = [(b"%d-%d" % (EPOCH, n), {b"e": event}) for n, event in enumerate(model.events)]
        yield ("XRANGE", keyspace.outbox(partition), "-", "+"), entries


def _people(model: PartitionModel) -> dict[bytes, bytes]:
    guards = {codec.PERSON_KIND.pack(*who): guard.record() for who, guard in model.guards.items()}
    courses = {
        codec.COURSE.pack(*msgspec.structs.astuple(course)): state.record()
        for course, state in model.courses.items()
    }
    parts = {codec.part_field(part): state.record() for part, state in model.parts.items()}
    return guards | courses | parts


def clock(history: History, partition: int, now_ms: int) -> Planned:
    """Set a partition's clock, and its host's back behind it: so it stands still for the next call."""
    return ("HMSET", history.keyspace.meta(partition), "clock", now_ms, "host", FAR_MS), True


def step(history: History, partition: int, records: list[bytes]) -> tuple[Any, ...]:
    """The command that executes these records."""
    return ("FCALL", "dosebook_step", 1, history.keyspace.outbox(partition), EPOCH, *records)
