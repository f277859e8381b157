"""A short run of `./dosebook faults`, and what becomes of rounds that are kept."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.faults import table
from tests.faults.campaign import Round, Struck
from tests.faults.strikes import CLASSES

ROOT = Path(__file__).parents[2]
KEPT = Round(
    "2021-07-12T20:00:00Z",
    1,
    1,
    20.0,
    {"ok": 1000},
    0,
    5,
    [Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {}), Struck("kill -9 of Redis", 2.0, 100, 1.5, 1.7, {})],
    {},
    {},
    [],
)


def faults(folder: Path, *options: str) -> tuple[int, str, dict[str, Any]]:
    """Run the command; its exit status, its output, its one round."""
    command = [sys.executable, "-m", "tests.faults", *options, "--json", str(folder / "result.json")]
    done = subprocess.run(
        [*command, "--history", str(folder / "faults.jsonl")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=110,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (folder / "result.json").exists(), done.stdout + done.stderr
    (one,) = json.loads((folder / "result.json").read_bytes())["rounds"]
    return done.returncode, done.stdout + done.stderr, one


@pytest.mark.timeout(120)
def test_every_class_of_faults_once(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--short")
    assert status == 0, output
    assert {fault["name"] for fault in one["faults"]} == {fault.name for fault in CLASSES}
    assert max(fault["unanswered"] for fault in one["faults"]) >= 100
    assert one["replies_lost"] > 0
    assert one["outcomes"]["ok"] > 1_000
    assert [kept.seed for kept in table.read(tmp_path / "faults.jsonl")] == [1]


@pytest.mark.timeout(120)
def test_control_broken_promises_are_seen(tmp_path: Path) -> None:
    status, output, one = faults(tmp_path, "--control")
    assert status == 1, output
    assert one["faults"][0]["figures"]["lost"] > 0
    assert one["audit"], output
    assert (tmp_path / "faults-1-requests.jsonl").exists()
    assert not (tmp_path / "faults.jsonl").exists()


def test_rounds_are_added_up(tmp_path: Path) -> None:
    history = tmp_path / "new" / "faults.jsonl"
    table.append(history, KEPT)
    twice = [*table.read(history), KEPT]
    row, elsewhere = table.summary(twice)
    assert (row["fault"], row["count"], row["lost"], row["unanswered_median"]) == (
        "kill -9 of Redis",
        4,
        0,
        150,
    )
    assert (row["recovery_p50_s"], elsewhere["oversold"]) == (1.0, 0)


def test_a_finding_shows_in_its_row() -> None:
    struck = Struck("kill -9 of Redis", 1.0, 200, 0.5, 0.7, {"lost": 2})
    broken = Round("", 1, 1, 1.0, {}, 0, 0, [struck], {"oversold": 1}, {}, ["lost: a", "oversold: b"])
    row, elsewhere = table.summary([broken])
    assert (row["lost"], elsewhere["oversold"], broken.is_clean, KEPT.is_clean) == (2, 1, False, True)


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"before\n{table.BEGIN}\nstale\n{table.END}\nafter\n")
    for _ in range(2):
        table.write_readme([KEPT], path=readme)
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert text.count("| kill -9 of Redis | 2 |") == 1
    assert "stale" not in text
