"""The order of a run: stores, sessions, processes, surge, audit; then it stays up.

Whatever happens, the supervisor stops every process in order. After a signal the exit status is 128 plus its
number, unless the result was already there. The data directory keeps the acknowledgement log and the number
of surges that it has seen, so that each has people of its own.
"""

import argparse
import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
from redis.exceptions import RedisError

from engine.cli.audit import audit
from engine.cli.country import Wanted, open_country
from engine.cli.display import Display, Outbox, SurgeDisplay
from engine.cli.rebuild import rebuild, words_of
from engine.cli.report import Opened, Persist, Report, print_report, report_of
from engine.cli.run import REAL
from engine.cli.site import Site, prepare_stores, start_stores
from engine.cli.surge import Line, Surge
from engine.errors import EngineFault
from engine.recovery.acks import AckLogError
from engine.recovery.audit import Report as Audited
from engine.servers.data_dir import DataDir
from engine.servers.errors import ServerError, ServerFailedError
from engine.servers.ports import Listener, listen
from engine.servers.supervisor import State, Supervisor
from engine.settings import Settings
from engine.storage.pool import connect_alone
from engine.storage.queries import query

SURGE_POLL_S = 0.2
OUTBOX_POLL_S = 1.0
ACKNOWLEDGEMENTS = "acknowledgements.jsonl"
RUNS = "runs"


def evening(args: argparse.Namespace) -> int:
    """The whole run; exit status."""
    with DataDir.open(args.data_dir) as data, contextlib.closing(listen(args.port)) as listener:
        try:
            return asyncio.run(Evening(args, data, listener).run())
        except EngineFault as error:
            raise ServerError(str(error)) from error


class Evening:
    """One run of the command."""

    def __init__(self, args: argparse.Namespace, data: DataDir, listener: Listener) -> None:
        self._args = args
        self._data = data
        self._listener = listener
        self._display = Display()
        self._supervisor = Supervisor(data, on_event=self._display.event)
        self._outbox = Outbox()
        self._report: Report | None = None

    async def run(self) -> int:
        """Everything in order; exit status."""
        async with self._supervisor:
            settings, site, opened = await self._start()
            if not self._args.no_surge:
                self._report = await self._surge_and_audit(settings, site, opened)
            if not self._args.exit:
                self._tell_addresses(site)
                await self._supervisor.wait()
        if self._report is not None:
            return 1 if self._report.findings else 0
        stopped_by = self._supervisor.stopped_by
        return 128 + stopped_by if stopped_by and not self._args.no_surge else 0

    async def _start(self) -> tuple[Settings, Site, Opened]:
        """Stores, sessions, processes."""
        display, args = self._display, self._args
        display.say(f"dosebook in {self._data.path}", "bold")
        display.say(f"  {args.layout}")
        if self._listener.note:
            display.say(f"  {self._listener.note}", "yellow")
        with display.step("start Redis and Postgres"):
            settings = await start_stores(self._supervisor, self._data, args.layout)
        with display.step("prepare schema and partitions"):
            if args.rebuild:
                await self._rebuild(settings)
            epochs = await prepare_stores(settings)
        pairs = None if args.stock == REAL else round(args.stock * args.citizens)
        opened = await open_country(settings, epochs, Wanted(pairs, args.seed), display)
        display.say(f"      {opened.seats:,} seats free in {opened.sessions:,} sessions")
        site = Site(self._data, settings, self._listener)
        with display.step("start persister and API"):
            await site.start(self._supervisor, args.workers)
        return settings, site, opened

    async def _rebuild(self, settings: Settings) -> None:
        """Restore what an earlier run of this directory had and Redis has no longer."""
        try:
            rebuilt = await rebuild(
                settings, list(range(settings.partitions)), False, lambda done, total: None
            )
        except (OSError, TimeoutError, RedisError, asyncpg.PostgresError) as error:
            raise ServerError(f"nothing could be rebuilt: {error or type(error).__name__}") from error
        for line in words_of(rebuilt).split("; "):
            self._display.say(f"      {line}", "dim")

    async def _surge_and_audit(self, settings: Settings, site: Site, opened: Opened) -> Report:
        before = await _courses(settings)
        line = await self._surge(site)
        with self._display.step("audit everything against everything"):
            audited = await self._audit(settings)
        outbox = await site.outbox()
        courses = await _courses(settings) - before
        persist = Persist(courses, outbox.lag_p50_ms, outbox.lag_p99_ms)
        restarts = sum(child.restarts for child in self._supervisor.status())
        figures = {str(figure): count for figure, count in audited.figures.items()}
        report = report_of(line, opened, persist, figures, restarts, self._display.steps)
        print_report(report, self._display.console)
        for words in audited.first.values():
            for difference in words:
                self._display.say(f"          {difference}", "red")
        if self._args.json:
            report.write(self._args.json)
        return report

    async def _audit(self, settings: Settings) -> Audited:
        """The audit, with the log of every surge that this directory has seen."""
        logs = [self._acknowledgements] if self._acknowledgements.exists() else []
        try:
            return await audit(settings, logs, lambda line: self._display.say(f"      {line}", "dim"))
        except (AckLogError, asyncpg.PostgresError, RedisError, OSError, TimeoutError) as error:
            raise ServerError(f"the audit could not be made: {error or type(error).__name__}") from error

    async def _surge(self, site: Site) -> Line:
        """From the first arrival to the last answer; the surge's last line."""
        args = self._args
        surge = Surge(
            site.url, args.citizens, self._next_run(), args.seed, self._acknowledgements, self._data
        )
        await self._supervisor.start(surge.child)
        async with self._watching(site):
            with SurgeDisplay(self._display, args.citizens) as shown:
                await self._follow(surge, shown)
        for note in surge.notes:
            self._display.say(f"  surge: {note}", "yellow")
        if not surge.last.end:
            raise ServerFailedError("the surge ended without a result (see above)")
        return surge.last

    async def _follow(self, surge: Surge, shown: SurgeDisplay) -> None:
        ended = False
        while not ended:
            ended = surge.has_ended()
            children = self._supervisor.status()
            for line in surge.read():
                if not line.end:
                    shown.show(line, self._outbox, children)
            for child in children:
                if child.state is State.GAVE_UP:
                    raise ServerFailedError(f"{child.name} was given up (see above)")
            await asyncio.sleep(0 if ended else SURGE_POLL_S)

    @contextlib.asynccontextmanager
    async def _watching(self, site: Site) -> AsyncIterator[None]:
        """Ask the persister for its figures meanwhile."""
        task = asyncio.create_task(self._watch(site))
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self, site: Site) -> None:
        while True:
            self._outbox = await site.outbox()
            await asyncio.sleep(OUTBOX_POLL_S)

    @property
    def _acknowledgements(self) -> Path:
        return self._data.path / ACKNOWLEDGEMENTS

    def _next_run(self) -> int:
        """The number of this surge in the data directory, from 0."""
        file = self._data.path / RUNS
        run = int(file.read_text("ascii")) if file.exists() else 0
        file.write_text(f"{run + 1}\n", "ascii")
        return run

    def _tell_addresses(self, site: Site) -> None:
        for name, address in site.addresses().items():
            self._display.say(f"  {name:<10} {address}")
        self._display.say("  stop it with Ctrl-C", "bold")


async def _courses(settings: Settings) -> int:
    """Courses that Postgres has."""
    connection = await connect_alone(settings.database_url)
    try:
        return int(await connection.fetchval(query("course.count")))
    finally:
        await connection.close()
