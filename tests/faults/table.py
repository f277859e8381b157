"""All rounds and outages that were ever kept, added up: the tables of the README."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import msgspec

from tests.faults.campaign import Round, Struck
from tests.faults.checker import FIGURES
from tests.faults.outage import Outage
from tests.faults.strikes import CLASSES

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by ./dosebook faults --readme -->", "<!-- end -->"
BEGIN_OUTAGES, END_OUTAGES = "<!-- outages, written by the same -->", "<!-- end of outages -->"
ELSEWHERE = "(no fault to blame)"
ACTS = {
    "book": "booked",
    "hold": "held",
    "confirm": "confirmed",
    "extend": "extended",
    "expired": "expired",
    "move": "moved",
    "drop": "second doses given up",
    "cancel": "cancelled",
    "household": "households",
}


def append(path: Path, round_: Round) -> None:
    """Keep a round."""
    _append(path, round_)


def append_outage(path: Path, outage: Outage) -> None:
    """Keep an outage."""
    _append(path, outage)


def read(path: Path) -> list[Round]:
    """The rounds kept so far."""
    return [msgspec.json.decode(line, type=Round) for line in _lines(path)]


def read_outages(path: Path) -> list[Outage]:
    """The outages kept so far."""
    return [msgspec.json.decode(line, type=Outage) for line in _lines(path)]


def summary(rounds: Sequence[Round]) -> list[dict[str, object]]:
    """A row for each class and policy, and one for what no fault can be blamed for."""
    struck: dict[tuple[str, str], list[Struck]] = defaultdict(list)
    for one in rounds:
        for fault in one.faults:
            struck[fault.name, one.policy.value].append(fault)
    order = [one.name for one in CLASSES]
    keys = sorted(struck, key=lambda key: (order.index(key[0]) if key[0] in order else len(order), key))
    found = [{"fault": name, "policy": policy} | _row(struck[name, policy]) for name, policy in keys]
    elsewhere = sum((Counter(one.unattributed) for one in rounds), Counter[str]())
    found.append({"fault": ELSEWHERE, "policy": ""} | {figure: elsewhere[figure] for figure in FIGURES})
    return found


def _row(struck: Sequence[Struck]) -> dict[str, object]:
    recovery = [fault.recovery_s for fault in struck]
    lasted = [fault.lasted_s for fault in struck if fault.lasted_s is not None]
    resolved = [fault.resolved_s for fault in struck if fault.resolved_s is not None]
    return {
        "count": len(struck),
        **{figure: sum(fault.figures.get(figure, 0) for fault in struck) for figure in FIGURES},
        "unanswered_median": round(median(fault.unanswered for fault in struck)),
        "recovery_p50_s": _p(recovery, 50),
        "recovery_p95_s": _p(recovery, 95),
        "persisted_p95_s": _p([fault.persisted_s for fault in struck], 95),
        "lasted_max_s": round(max(lasted), 1) if lasted else "",
        "resolved_max_s": round(max(resolved), 2) if resolved else "",
    }


def markdown(rounds: Sequence[Round]) -> str:
    """The table, and what it was made from."""
    return "\n".join([totals(rounds), "", *_table(summary(rounds), ["fault", "policy"])])


def outages(kept: Sequence[Outage]) -> str:
    """A row for each outage."""
    if not kept:
        return "None was played yet."
    return "\n".join(_table([_outage_row(one) for one in kept], ["policy"]))


def _outage_row(one: Outage) -> dict[str, object]:
    rates = [minute.bookings_per_s for minute in one.course]
    return {
        "policy": one.policy.value,
        "minutes": round(one.minutes, 1),
        "bookings_per_s_median": round(median(rates)) if rates else "",
        "bookings_per_s_lowest_minute": round(min(rates)) if rates else "",
        "Redis_MB_before": one.redis_mb_before,
        "Redis_MB_at_the_end": one.course[-1].redis_mb if one.course else "",
        "backlog_events": f"{one.backlog:,}",
        "drained_after_s": one.drain_s,
        "findings": len(one.findings) + sum(one.audit.values()),
    }


def _table(rows: Sequence[dict[str, object]], words: Sequence[str]) -> list[str]:
    """As Markdown; figures to the right."""
    columns = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("| " + " | ".join("---" if name in words else "---:" for name in columns) + " |")
    return lines + ["| " + " | ".join(str(row.get(name, "")) for name in columns) + " |" for row in rows]


def totals(rounds: Sequence[Round]) -> str:
    """In one sentence, what the rounds were."""
    outcomes = sum((Counter(one.outcomes) for one in rounds), Counter[str]())
    faults = sum(len(one.faults) for one in rounds)
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    acts = sum((Counter(one.acts) for one in rounds), Counter[str]())
    done = ", ".join(f"{acts[name]:,} {words}" for name, words in ACTS.items())
    clean, stuck = sum(one.is_clean for one in rounds), sum(bool(one.stuck) for one in rounds)
    return (
        f"{faults} faults in {len(rounds)} rounds, {clean} of them clean, the audit's figures included,"
        f" {stuck} ended before their verdict;"
        f" requests: {told}; acknowledged: {done};"
        f" replies lost on purpose: {sum(one.replies_lost for one in rounds):,};"
        f" the protocol's known exposure met {sum(one.exposed for one in rounds)} times."
    )


def write_readme(rounds: Sequence[Round], kept: Sequence[Outage] = (), path: Path = README) -> None:
    """Put the tables between their marks."""
    text = _between(path.read_text(), BEGIN, markdown(rounds), END)
    path.write_text(_between(text, BEGIN_OUTAGES, outages(kept), END_OUTAGES))


def _between(text: str, begin: str, new: str, end: str) -> str:
    before, mark, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{new}\n\n{end}{after}" if mark else text


def _append(path: Path, what: msgspec.Struct) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(what) + b"\n")


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines() if path.exists() else []


def _p(values: Sequence[float], percent: int) -> float:
    if len(values) == 1:
        return round(values[0], 2)
    return round(quantiles(values, n=100, method="inclusive")[percent - 1], 2)
