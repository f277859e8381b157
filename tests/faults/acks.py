"""A history as the audit reads it, and as people count it."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from engine.domain.course import Appointment
from engine.recovery.acks import AckWriter
from tests.faults.history import BEGINS, Op

# What an acknowledgement is called in the log of the audit, and which of them name the course's seats.
ACKS = {
    "book": "book",
    "hold": "hold",
    "confirm": "confirm",
    "move": "move",
    "drop": "move",
    "cancel": "cancel",
}
SEATED = frozenset({"book", "hold", "confirm", "move"})


def write_acks(ops: Sequence[Op], path: Path) -> None:
    """The acknowledgements as the audit reads them, in the order in which clients knew."""
    lines = [(op.sent_s, f"asking-{ACKS[op.act]}", op) for op in ops if op.act in {"move", "drop", "cancel"}]
    # Of two moves at one time nobody knows which came last.
    lines += [
        (op.answered_s, ACKS[op.act], op)
        for op in ops
        if op.outcome == "ok" and not op.is_rival and op.act in ACKS
    ]
    with AckWriter(path) as log:
        for at_s, name, op in sorted(lines, key=lambda line: line[0]):
            seats = [Appointment(*seat) for seat in op.seats] if name in SEATED else []
            log.by_reference(name, op.reference, seats, int(at_s * 1000), op.revision)  # type: ignore[arg-type]  # an OpName


def acts_of(ops: Sequence[Op], expired: int) -> dict[str, int]:
    """What was acknowledged, each once, by kind; households and courses at two locations apart."""
    told = {(op.person, op.op_key): op for op in ops if op.outcome == "ok"}
    counts = Counter(str(op.act) for op in told.values())
    counts["household"] = sum(op.members > 1 and not op.member and op.act in BEGINS for op in told.values())
    counts["expired"] = expired
    return dict(counts)
