"""The one place of HTTP statuses: every refusal and every fault as problem+json (RFC 9457).

The ``type`` of a problem is stable; clients decide by it. ``detail`` says what to do. Nothing that the caller
wrote stands in a problem or in a log: a name in the wrong field must not end up there.
"""

import traceback
from collections.abc import Sequence
from datetime import date
from typing import Any, NamedTuple

import msgspec
import structlog
from litestar import Request
from litestar.exceptions import HTTPException, ValidationException

from api.messages import AlternativeOut
from api.replies import PROBLEM, Reply
from engine import errors, limits
from engine.booking.outcomes import Reason
from engine.privacy.person_key import NamelessError
from engine.rules.refusal import Basis, Refusal, Rule

URN = "urn:dosebook:problem:"
_encode = msgspec.json.Encoder().encode
_log = structlog.get_logger("api")


class Kind(NamedTuple):
    """One type of problem. ``retry_s``: when asking again makes sense, as Retry-After."""

    status: int
    title: str
    detail: str
    retry_s: int = 0


_KEY = (
    "Send Idempotency-Key: 8 to 64 visible ASCII characters, new for each wish, the same when asking again."
)
_AGAIN = "Nothing was written. Ask again with the same Idempotency-Key."
_ELSE = "Choose one of the alternatives, or search again, and use a new Idempotency-Key."
_SEARCH = "Take both doses from one answer of /v1/availability."

KINDS: dict[str, Kind] = {
    # The request cannot be read.
    "malformed": Kind(400, "The request cannot be read", "Correct the request."),
    "helpline-only": Kind(
        401, "This is for the helpline", "Send Authorization: Bearer with the helpline's key."
    ),
    "idempotency-key": Kind(400, "Idempotency-Key is missing or malformed", _KEY),
    "not-found": Kind(404, "There is no such thing here", "Check the address."),
    "method-not-allowed": Kind(405, "This address does not take that method", "See the Allow header."),
    "too-large": Kind(413, "The body is too large", f"Send at most {limits.BODY_BYTES_MAX} bytes."),
    "media-type": Kind(415, "The body is not JSON", "Send Content-Type: application/json."),
    # The wish is not possible, whatever is free.
    "key-reused": Kind(
        422, "The Idempotency-Key was used for another request", "Use a new key for a new wish."
    ),
    "disambiguator": Kind(
        422,
        "The disambiguator is missing",
        "Say what tells this person apart from the other, as the place of birth.",
    ),
    "nameless": Kind(
        422, "A name has no letter", "Give family name and given names as in an identity document."
    ),
    "birth-date": Kind(422, "The birth date is not possible", "Give a date from 1900-01-01 to today."),
    "unknown-person": Kind(
        422, "The person is not known", "Register the person with POST /v1/persons first."
    ),
    "unknown-session": Kind(422, "There is no such session", _SEARCH),
    "unknown-slot": Kind(422, "The session has no such slot", _SEARCH),
    "doses": Kind(
        422,
        "These doses make no course",
        "Ask for dose 1 and dose 2, one of them, or dose 1 of a booster, each once.",
    ),
    "two-locations": Kind(
        422, "The doses are at two locations", "Choose all doses that are booked together at one location."
    ),
    "two-vaccines": Kind(422, "The doses are of two vaccines", "Choose the same vaccine for both doses."),
    "one-dose": Kind(422, "This vaccine has no second dose now", "Choose another vaccine."),
    "second-dose-needed": Kind(
        422, "One dose is not enough", "Choose dose 2 as well, or a vaccine of which one dose is enough."
    ),
    "given-missing": Kind(
        422, "The last dose is not known", "Give the vaccine and the day of the last dose, then ask again."
    ),
    "given-already": Kind(
        422, "Dose 1 has been given", "Ask for dose 2 alone, or correct what was said of the last dose."
    ),
    "given-impossible": Kind(422, "The day of the last dose is not possible", "Correct its day."),
    "given-in-future": Kind(422, "The last dose lies in the future", "Correct its day."),
    "vaccine-not-admitted": Kind(
        422, "This vaccine is not for this person now", "Choose another vaccine, or a later day."
    ),
    "cohort-not-open": Kind(
        422, "It is not this person's turn yet", "Book from the day that is named, or choose a later dose."
    ),
    "booster-not-due": Kind(422, "The booster is not due yet", "Choose a day from the one that is named."),
    "no-such-dose": Kind(422, "The course has no such dose", "Ask for a dose that is booked."),
    "slot-begun": Kind(
        422, "The dose's slot has begun", "It can be neither moved nor cancelled; a later dose can."
    ),
    "cut-off": Kind(422, "It is too late to change this dose", "Keep it, or ask the helpline."),
    "changes-used": Kind(
        422, "The course was changed as often as it may be", "Keep it, or cancel all of it and book anew."
    ),
    "household-size": Kind(
        422,
        "Too many people, or none",
        f"Book for at most {limits.HOUSEHOLD_MAX} people together.",
    ),
    "household-twice": Kind(422, "A person is there twice", "Name every member of the household once."),
    "waitlist-people": Kind(422, "Too many people, or one twice", "Wait for at most eight people together."),
    "waitlist-kind": Kind(422, "Nobody waits for this kind of course", "Wait for primary or booster."),
    "waitlist-shape": Kind(422, "Nobody waits for such a course", "Wait for primary or booster."),
    "waitlist-area": Kind(422, "There is no location near", "Choose another place, or a larger radius."),
    "waitlist-days": Kind(
        422, "These days cannot be waited for", "Choose days from today on, within a year."
    ),
    "waitlist-vaccines": Kind(422, "Too many vaccines", "Leave vaccines out to wait for all of them."),
    "unknown-group": Kind(422, "A group is not known", "Use the codes of the campaign's groups."),
    "one-location": Kind(
        422, "These bookings are at several locations", "Confirm or prolong those of one household together."
    ),
    "not-neighbouring": Kind(
        422, "The first doses lie too far apart", "Choose neighbouring times, or book one by one."
    ),
    "slot-past": Kind(422, "The slot has begun", "Search again: /v1/availability has later slots."),
    "doses-out-of-order": Kind(
        422, "Dose 2 is not after dose 1", "Swap the doses, or choose a later dose 2."
    ),
    "interval": Kind(422, "Dose 2 is outside the interval", _SEARCH),
    "unknown-postcode": Kind(422, "The postcode is not known", "Give another postcode, or lat and lon."),
    "unknown-vaccine": Kind(422, "The vaccine is not known", "Leave vaccine out to see all of them."),
    # What was asked for is not free, or not for this person.
    "slot-full": Kind(409, "The slot is full", _ELSE),
    "session-closed": Kind(409, "The session is closed", _ELSE),
    "already-booked": Kind(409, "The person has a booking", "Cancel it first, or keep it."),
    "waitlist-too-many-entries": Kind(409, "Somebody waits too often", "Leave another entry first."),
    "offer-gone": Kind(409, "The offer does not stand any more", "Your place in line is kept."),
    "offer-under-way": Kind(409, "An acceptance is under way", "Look at the entry again in a moment."),
    "hold-over": Kind(
        409, "The hold is over", "Its seats were given back. Search again, and hold or book anew."
    ),
    "extended-too-often": Kind(
        409, "The hold was prolonged as often as it may be", "Confirm it before it ends, or let it go."
    ),
    "still-held": Kind(
        409, "The booking is held, not booked yet", "Confirm it first, or give all of it back."
    ),
    "changed-meanwhile": Kind(
        409, "The booking was changed meanwhile", "Look at it again, and use a new Idempotency-Key."
    ),
    "nothing-free": Kind(
        409, "Nothing that suits is free", "Ask for more days, times or kilometres, or join the waitlist."
    ),
    "superseded": Kind(409, "A later request replaced this one", "Ask again with a new Idempotency-Key."),
    # The machine cannot now.
    "late": Kind(503, "The request took too long to reach the store", _AGAIN, 1),
    "busy": Kind(503, "Too many requests wait", _AGAIN, 1),
    "partition-closed": Kind(503, "These places take no bookings now", _AGAIN, 5),
    "backlog": Kind(503, "Bookings are slowed down now", _AGAIN, 10),
    "waitlist-full": Kind(503, "The waitlist is full", "Search again, or ask later.", 600),
    "store-full": Kind(503, "No room for more bookings now", _AGAIN, 5),
    "no-answer": Kind(503, "The store did not answer", "Ask again in a moment.", 1),
    "registration-away": Kind(
        503, "Registration is not possible now", "Ask again with the same Idempotency-Key.", 5
    ),
    "internal": Kind(
        500, "The engine failed", "Ask again with the same Idempotency-Key; report it if it stays."
    ),
}

OF_REASON = {
    Reason.FULL: "slot-full",
    Reason.CLOSED: "session-closed",
    Reason.ALREADY_BOOKED: "already-booked",
    Reason.KEY_REUSED: "key-reused",
    Reason.SUPERSEDED: "superseded",
    Reason.LATE: "late",
    Reason.UNKNOWN_COURSE: "not-found",
    Reason.GONE: "hold-over",
    Reason.CHANGED: "changed-meanwhile",
    Reason.TOO_OFTEN: "extended-too-often",
    Reason.HELD: "still-held",
}
OF_RULE = {rule: rule.value for rule in Rule} | {
    Rule.PAST_SLOT: "slot-past",
    Rule.OUT_OF_ORDER: "doses-out-of-order",
}
_OF_FAULT: dict[type[Exception], str] = {
    errors.QueueFull: "busy",
    errors.PartitionClosed: "partition-closed",
    errors.Backlogged: "backlog",
    errors.StoreFull: "store-full",
    errors.OutcomeUnknown: "no-answer",
    errors.StorageAway: "registration-away",
    NamelessError: "nameless",
}
_OF_STATUS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 415: "media-type"}


class Problem(msgspec.Struct, frozen=True, omit_defaults=True):
    """The body of every answer that is not a success."""

    type: str
    title: str
    status: int
    detail: str
    alternatives: list[list[AlternativeOut]] | list[AlternativeOut] | None = None
    repairs: list[AlternativeOut] | None = None
    dose: int | None = None
    member: int | None = None
    rule: str | None = None
    from_day: date | None = None
    until_day: date | None = None
    basis: str | None = None
    fields: list[str] | None = None


class ProblemError(Exception):
    """Raised where a route cannot go on; carries the finished reply."""

    def __init__(self, reply: Reply[Any]) -> None:
        super().__init__(reply.status_code)
        self.reply = reply


def problem(
    name: str,
    detail: str = "",
    *,
    headers: Sequence[tuple[bytes, bytes]] = (),
    **more: Any,
) -> Reply[Any]:
    """A reply of the named kind; ``more`` are fields of ``Problem``."""
    kind = KINDS[name]
    content = Problem(URN + name, kind.title, kind.status, detail or kind.detail, **more)
    retry = [(b"retry-after", b"%d" % kind.retry_s)] if kind.retry_s else []
    return Reply(kind.status, _encode(content), [*headers, *retry], PROBLEM)


def refusal(found: Refusal, repairs: list[AlternativeOut] | None = None) -> Reply[Any]:
    """A wish that breaks a rule: which one, and from which day on it would not."""
    return problem(
        OF_RULE[found.rule],
        _words(found),
        repairs=repairs,
        dose=found.dose or None,
        member=found.member,
        rule=found.name or None,
        from_day=found.from_day,
        until_day=found.until_day,
        basis=None if found.basis is None else found.basis.value,
    )


def _words(found: Refusal) -> str:
    """What to do, where the kind of problem alone does not say it."""
    if found.rule is Rule.INTERVAL:
        return (
            f"Dose 2 must come {found.days_min} to {found.days_max} days after dose 1; these are"
            f" {found.days} days apart."
        )
    if found.rule is Rule.CUT_OFF:
        return f"This dose can be changed until {found.minutes} minutes before it begins. Ask the helpline."
    if found.rule is Rule.NOT_NEIGHBOURING:
        return f"Choose first doses that begin within {found.minutes} minutes, or book one by one."
    if found.from_day is not None and found.basis is Basis.BOOKING:
        return f"It can be booked from {found.from_day} on."
    if found.from_day is not None and found.basis is Basis.DOSE:
        return f"Choose a day from {found.from_day} on."
    return ""


def on_exception(request: Request[Any, Any, Any], error: Exception) -> Reply[Any]:
    """Whatever a route or the framework raised, as a problem."""
    if isinstance(error, ProblemError):
        return error.reply
    if isinstance(error, ValidationException):
        return problem("malformed", "These parameters are missing or not valid.", fields=_fields(error))
    if isinstance(error, HTTPException) and error.status_code < 500:
        return _of_framework(error)
    name = _OF_FAULT.get(type(error))
    if name is not None:
        return problem(name)
    _tell(request, error)
    return problem("internal")


def _of_framework(error: HTTPException) -> Reply[Any]:
    allow = (error.headers or {}).get("allow")
    headers = [(b"allow", allow.encode())] if allow else []
    return problem(_OF_STATUS.get(error.status_code, "malformed"), headers=headers)


def _fields(error: ValidationException) -> list[str]:
    """The names of our parameters that did not fit, without what stood in them."""
    extra = error.extra if isinstance(error.extra, list) else []
    return sorted({str(item["key"]) for item in extra if isinstance(item, dict) and "key" in item})


def _tell(request: Request[Any, Any, Any], error: Exception) -> None:
    """Log where it happened, and never what the message says: it may quote the request."""
    frames = [f"{f.filename}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)[-4:]]
    route = request.scope.get("path_template", "")
    _log.error("api.failed", error=type(error).__name__, route=route, method=request.method, frames=frames)
