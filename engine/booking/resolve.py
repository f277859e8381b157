"""Resolves a live guard: learns what became of its course, and settles or frees the guard accordingly.

A claim of another op that meets it does this, and the sweep of stale claims. Where no take has come, a
tombstone is written first, so that a late one is refused. Dying between the steps is harmless: each is
idempotent, and the guard is changed by compare-and-set on its generation.
"""

from engine.booking.steps import Call, Placement, Steps
from engine.domain.course import CourseId
from engine.inventory import codec


def resolve(person: bytes, kind: int, live: codec.Live, placement: Placement) -> Steps[bool]:
    """Steps of resolving the course in the way; True when it is booked. Otherwise its guard is freed."""
    if live.state == b"v":
        return True
    course = CourseId(person, kind, live.generation)
    guard = placement.keyspace.of_person(person)
    answer = yield Call(placement.keyspace.of_location(live.location), codec.resolve(course))
    if answer[:1] == b"B":
        yield Call(guard, codec.settle(course), awaited=False)
        return True
    yield Call(guard, codec.free(course) if answer[:1] == b"X" else codec.unclaim(course, buried=True))
    return False


def bury(course: CourseId, location: int, placement: Placement) -> Steps[bool]:
    """Steps of making sure that a course that is not there never will be; True when it is live."""
    answer = yield Call(placement.keyspace.of_location(location), codec.resolve(course))
    return answer[:1] == b"B"
