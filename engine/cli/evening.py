"""The order of a run: stores, sessions, processes, surge, audit; then it stays up.

Whatever happens, the supervisor stops every process in order. After a signal the exit status is 128 plus its
number, unless the result was already there.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from engine.cli.country import Wanted, open_country
from engine.cli.display import Display, Outbox, SurgeDisplay
from engine.cli.report import Opened, Persist, Report, print_report, report_of
from engine.cli.run import REAL
from engine.cli.site import Site, prepare_stores, start_stores
from engine.cli.surge import Surge
from engine.errors import EngineFault
from engine.servers.data_dir import DataDir
from engine.servers.errors import ServerError, ServerFailedError
from engine.servers.ports import Listener, listen
from engine.servers.supervisor import State, Supervisor
from engine.settings import Settings
from engine.storage.pool import connect_alone

SURGE_POLL_S = 0.2
OUTBOX_POLL_S = 1.0
ACKNOWLEDGEMENTS = "acknowledgements.jsonl"
RUNS = "runs"


def evening(args: argparse.Namespace) -> int:
    """The whole run; exit status."""
    with DataDir.open(args.data_dir) as data, contextlib.closing(listen(args.port)) as listener:
        return asyncio.run(Evening(args, data, listener).run())


class Evening:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, data: DataDir, listener: Listener) -> None:
        self._args = args
        self._data = data
        self._listener = listener
        self._display = Display()
        self._outbox = Outbox()
        self._report: Report | None = None

    async def run(self) -> int:
        """Everything in order; exit status."""
        supervisor = Supervisor(self._data, on_event=self._display.event)
        try:
            async with supervisor:
                await self._run(supervisor)
        except EngineFault as error:
            raise ServerError(str(error)) from error
        except* ServerError as errors:
            raise errors.exceptions[0] from None
        if self._report is not None:
            return 1 if self._report.findings else 0
        return 128 + supervisor.stopped_by if supervisor.stopped_by else 0
