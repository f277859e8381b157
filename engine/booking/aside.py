"""Sets seats aside away from a course's home, before the home decides whether they count (PROTOCOL.md).

A part never ends because time passed. It ends when the home does not count it, or no more: the home is asked
(``resolve``), and from then on cannot count it any more. Whoever dies before leaves it to the sweep.
"""

from collections import defaultdict
from collections.abc import Iterable

import msgspec

from engine.booking.outcomes import Reason, Refused
from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import HERE, Appointment, CourseId, Op, Wish
from engine.inventory import codec


class Away(msgspec.Struct, frozen=True, gc=False):
    """A wish at another location than the course's home."""

    location: int
    wish: Wish


class RefusedAside(msgspec.Struct, frozen=True, gc=False):
    """Seats of one partition were refused; those of others had been set aside.

    ``is_over``: they were set aside once and given back, so this revision of the course is decided.
    """

    refusal: Refused
    parts: tuple[Appointment, ...]
    is_over: bool


def aside(
    course: CourseId, revision: int, op: Op, home: int, away: Iterable[Away], placement: Placement
) -> Steps[tuple[Appointment, ...] | RefusedAside]:
    """Set seats aside for a revision of a course, partition by partition."""
    parts: tuple[Appointment, ...] = ()
    for partition, wishes in _by_partition(away, placement).items():
        ask = codec.Aside(course, revision, op, home, placement.not_after(partition), wishes)
        answer = yield Call(partition, codec.aside(ask))
        if answer[:1] != b"A":
            return RefusedAside(_refused(answer, wishes), parts, answer[:1] == b"T")
        seats = codec.seats_of(answer[1:])
        parts += tuple(
            Appointment(wish.dose, wish.session, wish.slot, seat, revision, partition)
            for wish, seat in zip(wishes, seats, strict=True)
        )
    return parts


def quit_all(course: CourseId, parts: Iterable[Appointment]) -> Steps[None]:
    """Give parts back that the home does not count, and never will again."""
    for part in parts:
        if part.where != HERE:
            identity = codec.PartId(course, part.dose, part.revision)
            yield Call(part.where, codec.quit_part(identity), awaited=False)


def _by_partition(away: Iterable[Away], placement: Placement) -> dict[int, tuple[Wish, ...]]:
    wishes: defaultdict[int, list[Wish]] = defaultdict(list)
    for one in away:
        wishes[placement.keyspace.of_location(one.location)].append(one.wish)
    return {partition: tuple(theirs) for partition, theirs in sorted(wishes.items())}


def _refused(answer: bytes, wishes: tuple[Wish, ...]) -> Refused:
    code = answer[:1]
    if code == b"F":
        _, width, mask = codec.stock(answer[2:])
        return Refused(Reason.FULL, answer[1], width, mask, wishes)
    if code == b"N":
        return Refused(Reason.CLOSED, answer[1])
    return Refused({b"K": Reason.CHANGED, b"T": Reason.CHANGED, b"D": Reason.LATE}[code])
