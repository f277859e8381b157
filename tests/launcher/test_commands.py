"""The command line itself: help, refusals, tasks."""

import sys
from pathlib import Path

import pytest

from engine.cli import COMMANDS, main, tasks
from engine.cli import test as test_command
from engine.cli.tasks import Task

FAILS = (sys.executable, "-c", "print('what is wrong'); raise SystemExit(1)")
PASSES = (sys.executable, "-c", "")


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(command in out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    assert f"./dosebook {command}" in capsys.readouterr().out


def test_unknown_argument_is_refused_with_the_next_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["check", "--fast"])
    assert "see dosebook check --help" in capsys.readouterr().err


def test_check_prints_a_line_each_and_fails_on_any(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_tasks(monkeypatch, Task("good", PASSES, None), Task("bad", FAILS, None))
    assert main(["check"]) == 1
    good, bad, why = capsys.readouterr().out.splitlines()
    assert good.startswith("ok    good")
    assert bad.startswith("FAIL  bad")
    assert why == "what is wrong"
    assert main(["check", "good"]) == 0


def test_check_passes_over_what_is_not_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_tasks(monkeypatch, Task("lua", ("no-such-program",), "lua-check"))
    assert main(["check"]) == 0
    assert "no-such-program is not installed (Debian package lua-check)" in capsys.readouterr().out


def test_all_names_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(test_command, "missing_packages", lambda: {"luacheck": "lua-check"})
    assert main(["test", "--all"]) == 1
    assert "missing luacheck: sudo apt-get install lua-check" in capsys.readouterr().err


def test_other_arguments_go_to_pytest_without_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(test_command, "check", lambda tasks: pytest.fail("checked"))

    def stand_in(suite: str, arguments: list[str]) -> int:
        seen.append((suite, arguments))
        return 0

    monkeypatch.setattr(test_command, "_pytest", stand_in)
    assert main(["test", "tests/servers", "-x", "-k", "restart"]) == 0
    assert seen == [("main", ["tests/servers", "-x", "-k", "restart"])]


def test_tasks_of_the_project_are_readable() -> None:
    named = {task.name: task for task in tasks.read_tasks()}
    assert named["lint"].argv[:2] == ("ruff", "check")
    assert named["lua"].debian_package == "lua-check"


def test_one_command_reads_what_the_other_prints() -> None:
    prints = (sys.executable, "-c", "print('words')")
    expects = (sys.executable, "-c", "raise SystemExit(input() != 'words')")
    outcomes = tasks.run_tasks([Task("fed", expects, None, prints), Task("unfed", expects, None, FAILS)])
    assert [outcome.passed for outcome in outcomes] == [True, False]


def test_tools_of_the_environment_come_first() -> None:
    assert tasks.program("ruff") == str(Path(sys.executable).parent / "ruff")


def set_tasks(monkeypatch: pytest.MonkeyPatch, *listed: Task) -> None:
    monkeypatch.setattr("engine.cli.check.read_tasks", lambda: list(listed))
