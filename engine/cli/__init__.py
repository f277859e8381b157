"""The command line: one file per command, listed in `COMMANDS`.

A command's module has `SUMMARY` (one line for the list), `DESCRIPTION` (what `--help` teaches),
`add_arguments(parser)` and `run(args) -> int` (exit status). It imports what is heavy inside `run`, so
that help and refusals are quick. `TAKES_MORE = True` lets arguments that we do not know through, in
`args.more`. Faults that people can mend end in one line on standard error and status 1.
"""

import argparse
import importlib
import sys
from collections.abc import Sequence
from types import ModuleType

from engine.servers.errors import ServerError

COMMANDS = (
    *("run", "persister", "audit", "rebuild"),
    *("test", "check", "simulate", "faults", "plant", "bench"),
)

DESCRIPTION = """\
dosebook, an open mass vaccination booking engine: both doses in one atomic step, nothing oversold,
nothing confirmed and then lost.
"""

EPILOG = """\
first steps:
  ./dosebook check          format, lint, types, arrows between rooms, spelling
  ./dosebook test           the same, then the whole test suite on real servers
  ./dosebook COMMAND --help what a command does, with examples

servers: REDIS_URL and DATABASE_URL name your own; without them, dosebook starts the ones it brings, or
those on PATH. Nothing is left running at the end.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, run one command, return its exit status."""
    modules = {name: importlib.import_module(f"engine.cli.{name}") for name in COMMANDS}
    parser = _parser(modules)
    args, more = parser.parse_known_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    command = modules[args.command]
    if more and not getattr(command, "TAKES_MORE", False):
        parser.error(f"{args.command} does not know {' '.join(more)}; see dosebook {args.command} --help")
    args.more = more
    return _run(command, args)


def _parser(modules: dict[str, ModuleType]) -> argparse.ArgumentParser:
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "dosebook", description=DESCRIPTION, epilog=EPILOG, formatter_class=layout, allow_abbrev=False
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for name, module in modules.items():
        subparser = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.DESCRIPTION,
            formatter_class=layout,
            allow_abbrev=False,
        )
        module.add_arguments(subparser)
    return parser


def _run(command: ModuleType, args: argparse.Namespace) -> int:
    try:
        return int(command.run(args))
    except ServerError as error:
        print(f"dosebook: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
