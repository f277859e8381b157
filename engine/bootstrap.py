"""The composition root: every part of the engine is made here, once, and handed to those that need it.

``open_engine`` reads what a process keeps in memory (sessions, masks, postcodes, rules), starts what follows
Redis and Postgres, and on leaving stops all of it in order. It fails where a store cannot be reached or has
not been prepared; after that, each store may come and go.
"""

import asyncio
import gc
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, date, datetime
from typing import Any

import structlog
from redis.exceptions import ResponseError

from engine import limits
from engine.availability.alternatives import NEAR_KM, Alternatives, FullStock
from engine.availability.board import Board
from engine.availability.follow import Follower
from engine.availability.plan import Party, Plan
from engine.availability.planner import Planner
from engine.availability.programmes import Programmes
from engine.availability.search import Place, Query, Search
from engine.booking.changes import ChangeDesk
from engine.booking.desk import Desk
from engine.booking.office import Office
from engine.booking.outcomes import Reason, Refused
from engine.booking.pressure import Pressure
from engine.capacity.catalogue import Catalogue
from engine.capacity.postcodes import Postcodes
from engine.domain.course import Kind, Wish
from engine.domain.person import Facts
from engine.errors import DeploymentMismatch, EngineFault
from engine.outbox.standing import Standing
from engine.persons.homonyms import Homonyms
from engine.persons.register import Registrar
from engine.privacy.references import References
from engine.privacy.seal import PlainSealer, Sealer
from engine.privacy.secrets import open_secrets
from engine.redis.acknowledge import Acknowledgement
from engine.redis.batch import STEP, Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import FAULTS, Command, Nodes, open_nodes
from engine.rules import eligibility
from engine.rules.campaign import load_campaign, load_regions
from engine.rules.courses import Rules
from engine.rules.intervals import load_intervals
from engine.settings import Acknowledge, Settings, replicas_of
from engine.storage.pool import connect_pool
from engine.storage.queries import query
from engine.waitlist.entries import Entries
from engine.waitlist.ledger import Ledger
from engine.waitlist.offers import Offers
from engine.waitlist.rounds import Surroundings
from engine.waitlist.wakes import Wakes
from engine.waitlist.worker import Worker
from engine.wishes.book import Wishes
from engine.wishes.freed import Freers
from engine.wishes.seats import DeskSeats, PlansAround
from engine.wishes.waiting import Waitlist

_log = structlog.get_logger("engine")


class Engine:
    """One process's engine. The parts are public: a caller uses the one whose noun it needs."""

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        rules: Rules,
        postcodes: Postcodes,
        references: References,
        registrar: Registrar,
        homonyms: Homonyms,
        programmes: Programmes,
        pool: Any,
        sealer: Sealer,
        helpline_key: bytes,
        batcher: Batcher,
        office: Office,
        board: Board,
        follower: Follower,
        pressure: Pressure,
        search: Search,
        planner: Planner,
        alternatives: Alternatives,
        probe: "Probe",
    ) -> None:
        self.catalogue = catalogue
        self.rules = rules
        self.postcodes = postcodes
        self.references = references
        self.registrar = registrar
        self.homonyms = homonyms
        self.helpline_key = helpline_key
        self.batcher = batcher
        self.office = office
        self.desk = Desk(office)
        self.changes = ChangeDesk(office)
        self.board = board
        self.follower = follower
        self.pressure = pressure
        self.planner = planner
        self.probe = probe
        self._search = search
        self._alternatives = alternatives
        self._chance = chance()
        self.seats = DeskSeats(office, self.desk)
        ledger = Ledger(pool)
        self.offers = Offers(ledger, self.seats, sealer, now_utc)
        entries = Entries(pool, ledger, sealer, self.seats.has_live_course, now_utc)
        self.waitlist = Waitlist(entries, office, programmes, office.today)
        self.wishes = Wishes(
            planner,
            self.desk,
            rules,
            catalogue.locations,
            catalogue.sessions,
            now_utc,
            office.today,
            self._chance,
        )

    def availability(self, asked: Query) -> list[Place]:
        """The nearest places where both doses are free, from memory."""
        return self._search.places(asked, now_utc(), self._chance)

    def alternatives(self, wished: Sequence[tuple[Wish, ...]], refused: Refused) -> list[Party]:
        """What else is free; nothing where more seats would not help."""
        if refused.reason not in (Reason.FULL, Reason.CLOSED):
            return []
        full = FullStock(refused.dose, refused.width, refused.stock) if refused.stock else None
        return self._alternatives.to_all(wished, full, now_utc(), self._chance)

    def repairs(self, kind: Kind, moved: Wish, facts: Facts) -> list[Plan]:
        """Where dose 2 could go if dose 1 went there: the nearest slots in the interval."""
        session = self.catalogue.sessions[moved.session]
        preference = self.planner.beside(
            1, session.location, session.vaccine, session.day, now_utc(), NEAR_KM
        )
        if preference is None:
            return []
        today = self.office.today(session.location)

        def admits(vaccine: str, location: int, day: date) -> bool:
            area, campaign = self.catalogue.locations[location].department, self.rules.campaign
            return eligibility.check(campaign, facts, kind, vaccine, area, today, day) is None

        return self.planner.find(preference, limits.ALTERNATIVES_MAX, now_utc(), self._chance, admits)


class Probe:
    """Asks every partition whether it takes bookings from this process."""

    def __init__(self, nodes: Nodes, standing: Standing) -> None:
        self._nodes = nodes
        self._standing = standing

    async def closed(self) -> dict[int, str]:
        """The partitions that do not, and why."""
        partitions = range(self._nodes.keyspace.partitions)
        groups = self._nodes.grouped(partitions).values()
        told = await asyncio.gather(*(self._ask(group) for group in groups))
        found = dict.fromkeys(partitions, "it is on no server of the cluster now")
        for group, replies in zip(groups, told, strict=True):
            found |= {p: self._words(p, reply) for p, reply in zip(group, replies, strict=True)}
        return {partition: why for partition, why in found.items() if why}

    async def _ask(self, partitions: list[int]) -> list[Any]:
        """A call without an operation to each partition of one server; its reply or its fault."""
        outbox, epoch = self._nodes.keyspace.outbox, self._standing.of
        calls: list[tuple[int, Command]] = [(p, ("FCALL", STEP, 1, outbox(p), epoch(p))) for p in partitions]
        try:
            async with asyncio.timeout(limits.PROBE_S_MAX):
                return await self._nodes.ask(calls, tolerant=True)
        except TimeoutError as late:
            return [late] * len(partitions)

    def _words(self, partition: int, reply: Any) -> str:
        if isinstance(reply, ResponseError):
            return self._standing.doubt(partition) or str(reply)
        return f"Redis does not answer: {type(reply).__name__}" if isinstance(reply, FAULTS) else ""


def chance() -> Callable[[], float]:
    """Draws from 0 up to 1, for samples and shares; no secret comes from it."""
    return random.Random().random  # noqa: S311


def now_utc() -> datetime:
    """The host's clock."""
    return datetime.now(UTC)


@asynccontextmanager
async def open_engine(settings: Settings) -> AsyncIterator[Engine]:
    """The engine of one process, from loading to the last answer."""
    async with AsyncExitStack() as stack:
        pool = await connect_pool(settings.database_url)
        stack.push_async_callback(pool.close)
        await _check_deployment(pool, settings)
        nodes = await stack.enter_async_context(open_nodes(settings.redis_url, Keyspace(settings.partitions)))
        standing = Standing(settings.database_url, nodes)
        stack.push_async_callback(standing.close)
        await standing.refresh()
        batcher = Batcher(nodes, standing.of, _acknowledgement(settings, standing))
        catalogue = await Catalogue.load(pool)
        board = Board(catalogue.sessions.values())
        wakes = Wakes()
        freers = Freers(pool, wakes, lambda session: _is_covered(session, catalogue, standing, follower))
        follower = Follower(nodes, standing.epoch, board, freers.saw)
        await follower.load()
        pressure = Pressure(
            lambda: list(nodes.grouped(range(settings.partitions)).values()),
            lambda partition: standing.behind(partition, follower.end(partition)),
            lambda partition: nodes.of(partition).memory_share,
            chance(),
        )
        probe = Probe(nodes, standing)
        engine = _compose(settings, pool, catalogue, batcher, board, follower, pressure, probe)
        worker = _worker(settings, engine, freers, wakes)
        _freeze(catalogue)
        async with _background(follower.run(), standing.follow(), pressure.follow(), worker.run()):
            yield engine
            await engine.office.close()
            await batcher.close()


def _is_covered(session: int, catalogue: Catalogue, standing: Standing, follower: Follower) -> bool:
    """Whether Postgres has what the session's partition had told when this process loaded it."""
    partition = follower.partition_of(catalogue.sessions[session].location)
    loaded_at = follower.loaded_at(partition)
    return loaded_at is not None and not standing.behind(partition, loaded_at)


def _worker(settings: Settings, engine: Engine, freers: Freers, wakes: Wakes) -> Worker:
    """What drives the waitlist, in whichever of the processes owns it."""
    around = PlansAround(engine.office, engine.planner, engine.board, now_utc, chance())
    surroundings = Surroundings(
        engine.seats,
        around,
        freers,
        around.free_slots,
        engine.catalogue.locations,
        engine.catalogue.sessions,
        engine.office.keyspace,
        now_utc,
        (EngineFault,),
        engine.rules.campaign.waitlist.offer_minutes * 60.0,
    )
    return Worker(settings.database_url, surroundings, PlainSealer(), wakes, _say_of_waitlist)


def _say_of_waitlist(line: str) -> None:
    _log.info("waitlist.worker", line=line)


def _acknowledgement(settings: Settings, standing: Standing) -> Acknowledgement:
    """What the answers of this process wait for."""
    if settings.acknowledge is Acknowledge.POSTGRES:
        return Acknowledgement(committed=standing.committed)
    return Acknowledgement(replicas_of(settings))


def _compose(
    settings: Settings,
    pool: Any,
    catalogue: Catalogue,
    batcher: Batcher,
    board: Board,
    follower: Follower,
    pressure: Pressure,
    probe: Probe,
) -> Engine:
    secrets = open_secrets(settings.secrets_dir)
    intervals = load_intervals(
        settings.france_dir / "vaccins.csv", settings.france_dir / "vaccins_intervalle_historique.csv"
    )
    regions = load_regions(settings.france_dir / "departements.csv")
    campaign = load_campaign(settings.campaign_file, intervals.vaccines, regions)
    locations, sessions = catalogue.locations, catalogue.sessions
    keyspace, rules = Keyspace(settings.partitions), Rules(campaign, intervals)
    programmes = Programmes(board, locations, sessions, intervals)
    search, planner = Search(programmes), Planner(programmes)
    sealer = PlainSealer()
    registrar = Registrar(pool, secrets.pepper, sealer)
    return Engine(
        catalogue=catalogue,
        rules=rules,
        postcodes=Postcodes.load(settings.france_dir / "codes_postaux.csv"),
        references=References(secrets.reference_key),
        registrar=registrar,
        homonyms=Homonyms(pool, registrar, sealer),
        programmes=programmes,
        pool=pool,
        sealer=sealer,
        helpline_key=secrets.helpline_key,
        batcher=batcher,
        office=Office(batcher, keyspace, sessions, locations, rules, pressure, now_utc),
        board=board,
        follower=follower,
        pressure=pressure,
        search=search,
        planner=planner,
        alternatives=Alternatives(programmes, search, planner),
        probe=probe,
    )


async def _check_deployment(pool: Any, settings: Settings) -> None:
    """The partition count places every person and location: another one would look in the wrong places."""
    partitions = await pool.fetchval(query("deployment.partitions"))
    if partitions is not None and partitions != settings.partitions:
        raise DeploymentMismatch(
            f"the database was founded with {partitions} partitions, DOSEBOOK_PARTITIONS says"
            f" {settings.partitions}: set it to {partitions}"
        )


@asynccontextmanager
async def _background(*jobs: Any) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(job) for job in jobs]
    for task in tasks:
        task.add_done_callback(_tell_end)
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _tell_end(task: "asyncio.Task[Any]") -> None:
    """None of them ends by itself: without one, the process goes on with what it knew last."""
    if not task.cancelled() and (error := task.exception()):
        _log.error("engine.background_ended", error=type(error).__name__, exc_info=error)


def _freeze(catalogue: Catalogue) -> None:
    """What was loaded stays: the collector need not look at 100,000 sessions for every few bookings."""
    started = time.monotonic()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*limits.COLLECTOR_THRESHOLDS)
    counts = {"locations": len(catalogue.locations), "sessions": len(catalogue.sessions)}
    _log.info("engine.loaded", seconds=round(time.monotonic() - started, 3), **counts)
