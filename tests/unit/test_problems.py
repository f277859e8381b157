"""The table of problems in the README is the code's, and every refusal has its problem."""

import re
from collections import defaultdict
from pathlib import Path

from api import problems
from engine.booking.outcomes import Reason
from engine.rules.refusal import Rule

README = Path(problems.__file__).parent / "README.md"


def test_the_readme_lists_every_problem_by_status() -> None:
    listed = {
        int(status): set(re.findall(r"`([a-z-]+)`", names))
        for status, names in re.findall(r"^\| (\d{3}) \| (`.*) \|$", README.read_text("utf-8"), re.MULTILINE)
    }
    known: defaultdict[int, set[str]] = defaultdict(set)
    for name, kind in problems.KINDS.items():
        known[kind.status].add(name)
    assert listed == known


def test_every_refusal_has_a_problem() -> None:
    assert set(problems.OF_REASON) == set(Reason)
    assert set(problems.OF_RULE) == set(Rule)
    assert set(problems.OF_REASON.values()) | set(problems.OF_RULE.values()) <= set(problems.KINDS)


def test_what_can_be_asked_again_says_when() -> None:
    for kind in problems.KINDS.values():
        assert (kind.retry_s > 0) == (kind.status == 503)
        assert kind.detail.endswith(".")
