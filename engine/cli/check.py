"""`dosebook check`: every task of pyproject.toml, one line each."""

import argparse

from engine.cli.tasks import Outcome, Task, read_tasks, run_tasks

SUMMARY = "format, lint, types, arrows between rooms, spelling, Lua"
DESCRIPTION = """\
Runs the tasks listed in pyproject.toml under [tool.dosebook.tasks], side by side, and prints one line for
each. Exit status 1 if any failed; its output follows its line.

  ./dosebook check              all of them
  ./dosebook check lint types   some of them
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Names of tasks."""
    names = [task.name for task in read_tasks()]
    parser.add_argument("tasks", nargs="*", metavar="TASK", help=f"any of: {', '.join(names)} (all)")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if a task failed or is unknown."""
    known = {task.name: task for task in read_tasks()}
    unknown = [name for name in args.tasks if name not in known]
    if unknown:
        _print(f"no task is named {', '.join(unknown)}; there are: {', '.join(known)}")
        return 1
    return check([known[name] for name in args.tasks] or list(known.values()))


def check(tasks: list[Task]) -> int:
    """Run and tell. A task that needs a Debian package which is absent is named and passed over."""
    absent = [task for task in tasks if task.is_missing and task.debian_package]
    outcomes = run_tasks([task for task in tasks if task not in absent])
    for outcome in outcomes:
        _tell(outcome)
    for task in absent:
        _print(
            f"[yellow]skip[/]  {task.name:<9} {task.argv[0]} is not installed (Debian package"
            f" {task.debian_package}); dosebook test --all insists on it"
        )
    return 0 if all(outcome.passed for outcome in outcomes) else 1


def _tell(outcome: Outcome) -> None:
    mark = "[green]ok[/]  " if outcome.passed else "[red]FAIL[/]"
    _print(f"{mark}  {outcome.task.name:<9} {outcome.seconds:5.1f} s  {_words(outcome.task)}")
    if not outcome.passed:
        _print_plain(outcome.output)


def _words(task: Task) -> str:
    return " | ".join(" ".join(command) for command in (task.producer, task.argv) if command)


def _print(line: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True, highlight=False).print(line)


def _print_plain(text: str) -> None:
    from rich.console import Console

    Console(soft_wrap=True).print(text, markup=False, highlight=False)
