"""All rounds that were ever kept, added up: the table of the README."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median, quantiles

import msgspec

from tests.faults.campaign import Round
from tests.faults.checker import FIGURES
from tests.faults.strikes import CLASSES

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by ./dosebook faults --readme -->", "<!-- end -->"
ELSEWHERE = "(no fault to blame)"


def append(path: Path, round_: Round) -> None:
    """Keep a round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(round_) + b"\n")


def read(path: Path) -> list[Round]:
    """The rounds kept so far."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    return [msgspec.json.decode(line, type=Round) for line in lines]


def summary(rounds: Sequence[Round]) -> list[dict[str, object]]:
    """A row for each class, and one for what no fault can be blamed for."""
    faults = [fault for one in rounds for fault in one.faults]
    names = [one.name for one in CLASSES] + sorted({f.name for f in faults} - {c.name for c in CLASSES})
    found = []
    for name in names:
        struck = [fault for fault in faults if fault.name == name]
        if struck:
            recovery = [fault.recovery_s for fault in struck]
            found.append(
                {"fault": name, "count": len(struck)}
                | {figure: sum(fault.figures.get(figure, 0) for fault in struck) for figure in FIGURES}
                | {"unanswered_median": round(median(fault.unanswered for fault in struck))}
                | {"recovery_p50_s": _p(recovery, 50), "recovery_p95_s": _p(recovery, 95)}
                | {"persisted_p95_s": _p([fault.persisted_s for fault in struck], 95)}
            )
    elsewhere = sum((Counter(one.unattributed) for one in rounds), Counter[str]())
    found.append({"fault": ELSEWHERE} | {figure: elsewhere[figure] for figure in FIGURES})
    return found


def markdown(rounds: Sequence[Round]) -> str:
    """The table, and what it was made from."""
    rows = summary(rounds)
    columns = list(rows[0])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in columns) + " |"]
    lines.append("| --- |" + " ---: |" * (len(columns) - 1))
    lines += ["| " + " | ".join(str(row.get(name, "")) for name in columns) + " |" for row in rows]
    return "\n".join([totals(rounds), "", *lines])


def totals(rounds: Sequence[Round]) -> str:
    """In one sentence, what the rounds were."""
    outcomes = sum((Counter(one.outcomes) for one in rounds), Counter[str]())
    faults = sum(len(one.faults) for one in rounds)
    told = ", ".join(f"{count:,} {name}" for name, count in sorted(outcomes.items()))
    clean = sum(one.is_clean for one in rounds)
    return (
        f"{faults} faults in {len(rounds)} rounds, {clean} of them clean, the audit's figures included;"
        f" requests: {told}; replies lost on purpose: {sum(one.replies_lost for one in rounds):,};"
        f" the protocol's known exposure met {sum(one.exposed for one in rounds)} times."
    )


def write_readme(rounds: Sequence[Round], path: Path = README) -> None:
    """Put the table between its marks."""
    before, _, rest = path.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    path.write_text(f"{before}{BEGIN}\n\n{markdown(rounds)}\n\n{END}{after}")


def _p(values: Sequence[float], percent: int) -> float:
    if len(values) == 1:
        return round(values[0], 2)
    return round(quantiles(values, n=100, method="inclusive")[percent - 1], 2)
