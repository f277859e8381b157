"""The engine's batched booking against an empty script, on one Redis, by server CPU.

Both are the same call with the same arguments: ``FCALL``, one outbox key, a batch of packed bookings. The
empty one returns at once; the real one does claim, take and settle with its event for each.
"""

import os
import statistics
from typing import Any

import msgspec
from redis import Redis

from engine.domain import seats
from engine.domain.course import Kind, Op, Wish
from engine.inventory import codec, library
from engine.redis.keyspace import Keyspace
from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer

BATCH, CALLS, ROUNDS = 64, 400, 5
SESSIONS, SLOTS, LINES = 200, 100, 8
FAR_MS = 2**50
EMPTY = (
    "#!lua name=benchmark\nredis.register_function('benchmark_empty', function(keys, args) return #args end)"
)


class ScriptRatio(msgspec.Struct, frozen=True):
    """Microseconds of Redis per operation, medians over the rounds; ``ratio`` = empty ÷ booking."""

    batch: int
    rounds: int
    empty_us: float
    booking_us: float
    ratio: float


def measure() -> ScriptRatio:
    """Alternate both in rounds on one server; an empty call is counted per operation that it carries."""
    empty, booking = [], []
    with (
        DataDir.make_temporary() as data,
        RedisServer(data) as server,
        Redis.from_url(server.url, protocol=2) as client,
    ):
        for number in range(ROUNDS):
            batches = _fresh(client)
            empty.append(_cpu_us(client, "benchmark_empty", batches))
            booking.append(_cpu_us(client, "dosebook_step", batches))
            _all_booked(client, number)
    empty_us, booking_us = statistics.median(empty), statistics.median(booking)
    return ScriptRatio(
        BATCH, ROUNDS, round(empty_us, 2), round(booking_us, 2), round(empty_us / booking_us, 4)
    )


def _fresh(client: Any) -> list[list[bytes]]:
    """An empty partition with room for everybody, and the batches of bookings for it."""
    client.flushall()
    client.function_load(library.source(), replace=True)
    client.function_load(EMPTY, replace=True)
    client.fcall("dosebook_found", 1, Keyspace().outbox(0), 1)
    mask = bytes(seats.all_free(SLOTS, LINES))
    opening = [codec.open_session(session, 1, mask) for session in range(2 * SESSIONS)]
    client.fcall("dosebook_step", 1, Keyspace().outbox(0), 1, *opening)
    return [[_booking(call * BATCH + n) for n in range(BATCH)] for call in range(CALLS)]


def _booking(number: int) -> bytes:
    session, slot = number % SESSIONS, number // SESSIONS % SLOTS
    wishes = (Wish(1, session, slot), Wish(2, SESSIONS + session, slot))
    member = codec.Member(os.urandom(16), Kind.PRIMARY, session, wishes)
    return codec.book(codec.Group(Op(b"k" * 8, b"d" * 8), FAR_MS, (member,)))


def _cpu_us(client: Any, function: str, batches: list[list[bytes]]) -> float:
    outbox = Keyspace().outbox(0)
    before = _cpu_s(client)
    for batch in batches:
        client.fcall(function, 1, outbox, 1, *batch)
    return (_cpu_s(client) - before) / (len(batches) * BATCH) * 1e6


def _cpu_s(client: Any) -> float:
    cpu = client.info("cpu")
    return float(cpu["used_cpu_user"]) + float(cpu["used_cpu_sys"])


def _all_booked(client: Any, number: int) -> None:
    events = client.xlen(Keyspace().outbox(0))
    if events != CALLS * BATCH:
        raise RuntimeError(
            f"round {number}: {events} of {CALLS * BATCH} were booked; the figure would be a lie"
        )
