"""The planter itself; `./dosebook plant` runs the whole list."""

from pathlib import Path

import msgspec
import pytest

from tests.plant.bugs import BUGS, Bug
from tests.plant.planter import ROOT, StaleBug, copied, parts_of, plant, run_suites

BUG = Bug("no answer", "answer.py", "42", "41", "everybody would be wrong", ())


@pytest.mark.parametrize("text", ["", "answer = 43\n", "answer = 42 if 42 else 0\n"])
def test_a_stale_bug_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "answer.py").write_text(text)
    with pytest.raises(StaleBug, match=r"no answer: answer\.py has the text to change \d times, not once"):
        plant(tmp_path, BUG)
    assert (tmp_path / "answer.py").read_text() == text


def test_a_bug_whose_file_is_gone_is_stale(tmp_path: Path) -> None:
    with pytest.raises(StaleBug, match="0 times"):
        plant(tmp_path, BUG)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_every_bug_fits_the_tree(bug: Bug) -> None:
    text = (ROOT / bug.file).read_text()
    assert text.count(bug.old) == 1
    assert bug.new != bug.old
    for suite in bug.suites:
        path, _, test = suite.partition("::")
        assert test in (ROOT / path).read_text()


def test_without_a_bug_every_suite_runs_once_those_of_a_file_together() -> None:
    suites = [("a.py::x",), ("a.py::y", "b.py"), ("c.py", "a.py::x")]
    bugs = [msgspec.structs.replace(BUG, suites=own) for own in suites]
    assert parts_of(bugs, 2) == [["a.py::x", "a.py::y", "c.py"], ["b.py"]]
    assert parts_of(bugs[:1], 2) == [["a.py::x"]]


def test_names_are_told_apart() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 15


def test_a_planted_bug_changes_the_copy_only_and_is_caught() -> None:
    bug = next(bug for bug in BUGS if bug.name == "opening gives sold seats back")
    before = (ROOT / bug.file).read_text()
    with copied() as tree:
        plant(tree, bug)
        status, output = run_suites(tree, bug.suites)
    assert status == 1, output
    assert (ROOT / bug.file).read_text() == before
