"""Books both doses of one person at one location: claim, take, settle (PROTOCOL.md).

Where person and location share a partition the three are one operation, ``book``. Otherwise the commit point
is ``take``; the outbox consumer settles the guard. A process that dies after ``claim`` leaves a claimed
guard: the next claim resolves it, so that nobody is locked out and nobody is booked twice.
"""

import msgspec

from engine import limits
from engine.booking.outcomes import Booked, BookOutcome, InDoubt, Reason, Refused
from engine.booking.resolve import resolve
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import Appointment, Course, CourseId, Op, Wish
from engine.errors import StoreFull
from engine.inventory import codec


class Request(msgspec.Struct, frozen=True, gc=False):
    """One person's wish for one location. ``wishes`` has one slot per dose, dose 1 first."""

    person: bytes
    kind: int
    op: Op
    location: int
    wishes: tuple[Wish, ...]


def book(request: Request, placement: Placement) -> Steps[BookOutcome]:
    """Steps of a booking. Bounded: at most ``CLAIM_ATTEMPTS_MAX`` rivals are resolved on the way."""
    keyspace = placement.keyspace
    fused = keyspace.of_person(request.person) == keyspace.of_location(request.location)
    for _ in range(limits.CLAIM_ATTEMPTS_MAX):
        outcome = yield from (_fused if fused else _claim_and_take)(request, placement)
        if not isinstance(outcome, codec.Live):
            return outcome
        if (yield from resolve(request.person, request.kind, outcome, placement)):
            return Refused(Reason.ALREADY_BOOKED)
    return InDoubt()


def _fused(request: Request, placement: Placement) -> Steps[BookOutcome | codec.Live]:
    partition = placement.keyspace.of_location(request.location)
    answer = yield Call(
        partition,
        codec.book(
            request.person,
            request.kind,
            request.op,
            request.location,
            placement.not_after(partition),
            request.wishes,
        ),
    )
    code, rest = answer[:1], answer[1:]
    if code == b"B":
        (generation,) = codec.GENERATION.unpack_from(rest)
        return _booked(request, generation, rest[codec.GENERATION.size :])
    if code == b"L":
        return codec.live(rest)
    return _refused(request, answer)


def _claim_and_take(request: Request, placement: Placement) -> Steps[BookOutcome | codec.Live]:
    guard = placement.keyspace.of_person(request.person)
    answer = yield Call(
        guard,
        codec.claim(request.person, request.kind, request.op, request.location, placement.not_after(guard)),
    )
    code, rest = answer[:1], answer[1:]
    if code == b"L":
        return codec.live(rest)
    if code not in b"+=":
        return _refused(request, answer)
    (generation,) = codec.GENERATION.unpack_from(rest)
    return (yield from _take(request, generation, placement, first=code == b"+"))


def _take(
    request: Request, generation: int, placement: Placement, *, first: bool
) -> Steps[BookOutcome | codec.Live]:
    """Take the seats of a claimed generation. ``first``: the claim was new, not joined."""
    course = CourseId(request.person, request.kind, generation)
    guard, seats = (
        placement.keyspace.of_person(course.person),
        placement.keyspace.of_location(request.location),
    )
    try:
        answer = yield Call(seats, codec.take(course, request.op, placement.not_after(seats), request.wishes))
    except StoreFull:
        # Refused as a whole, so as good as any refusal. A claim left behind would take up what becomes free.
        if first:
            yield Call(guard, codec.unclaim(course, buried=False), awaited=False)
        raise
    if answer[:1] == b"B":
        return _booked(request, generation, answer[1:])
    if answer[:1] == b"T" or not first:
        # Given up by a rival, or refused while another take of this op may still be on its way: only a
        # tombstone makes this generation's end final.
        return codec.Live(b"c", generation, request.location)
    yield Call(guard, codec.unclaim(course, buried=False), awaited=False)
    return _refused(request, answer)


def _booked(request: Request, generation: int, packed_seats: bytes) -> Booked:
    seats = codec.seats_of(packed_seats)
    appointments = tuple(
        Appointment(wish.dose, wish.session, wish.slot, seat)
        for wish, seat in zip(request.wishes, seats, strict=True)
    )
    course = CourseId(request.person, request.kind, generation)
    return Booked(Course(course, request.location, "booked", appointments))


def _refused(request: Request, answer: bytes) -> Refused:
    code = answer[:1]
    if code == b"F":
        _, width, mask = codec.stock(answer[2:])
        return Refused(Reason.FULL, answer[1], width, mask, request.wishes)
    if code == b"N":
        return Refused(Reason.CLOSED, answer[1])
    return Refused({b"K": Reason.KEY_REUSED, b"D": Reason.LATE, b"T": Reason.SUPERSEDED}[code])
