"""Puts France on sale: the register, hours and allocations become sessions in Postgres and stocks in Redis.

Opening is idempotent (see `engine.capacity.open`): what an earlier run opened stays as it is, bookings
included, and only days that were not there are added.
"""

import asyncio
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from engine import limits
from engine.capacity.allocations import load_allocations
from engine.capacity.open import Inventory, open_sessions
from engine.capacity.opening import OpeningNotes, opening_notes, plan_sessions
from engine.capacity.register import load_register
from engine.capacity.scarcity import with_scarcity
from engine.cli.display import Display
from engine.cli.report import Opened
from engine.domain import seats
from engine.domain.capacity import Location, SessionPlan
from engine.inventory import codec
from engine.redis.batch import Batcher
from engine.redis.keyspace import Keyspace
from engine.redis.nodes import Command, Nodes, open_nodes
from engine.rules.intervals import load_intervals
from engine.settings import Settings
from engine.storage.pool import connect_pool
from engine.storage.queries import query

CAPITAL = ZoneInfo("Europe/Paris")


class Wanted(msgspec.Struct, frozen=True):
    """What is to be on sale: ``free_pairs`` of doses, or everything if None."""

    free_pairs: int | None
    seed: int


class Plan(msgspec.Struct, frozen=True):
    """Sessions that are to be opened, and what was assumed for them."""

    locations: tuple[Location, ...]
    sessions: list[SessionPlan]
    notes: OpeningNotes


def plan_country(folder: Path, wanted: Wanted, today: date) -> Plan:
    """The sessions of 91 days from today. Takes a second or two: call it in a thread."""
    register = load_register(folder / "centres.csv")
    allocations = load_allocations(folder / "allocations_rdv_2021-08.csv")
    intervals = load_intervals(folder / "vaccins.csv", folder / "vaccins_intervalle_historique.csv")
    sessions = list(plan_sessions(register, allocations, today))
    if wanted.free_pairs is not None:
        sessions = list(with_scarcity(sessions, wanted.free_pairs, intervals, wanted.seed))
    return Plan(register.locations, sessions, opening_notes(register, allocations))


async def open_country(
    settings: Settings, epochs: dict[int, int], wanted: Wanted, display: Display
) -> Opened:
    """Plan and open; prints what was assumed. Returns what is on sale now."""
    today = datetime.now(CAPITAL).date()
    with display.step("plan 91 days of sessions"):
        plan = await asyncio.to_thread(plan_country, settings.france_dir, wanted, today)
    for line in plan.notes.summary():
        display.say(f"      {line}", "dim")
    pool = await connect_pool(settings.database_url)
    try:
        async with open_nodes(settings.redis_url, Keyspace(settings.partitions)) as nodes:
            batcher = Batcher(nodes, epochs.__getitem__)
            opened = await _open(pool, Inventory(nodes, batcher), plan, display)
            await batcher.close()
            return msgspec.structs.replace(opened, seats=await _free_seats(pool, nodes))
    finally:
        await pool.close()


async def _open(pool: Any, inventory: Inventory, plan: Plan, display: Display) -> Opened:
    with display.step("open them"), display.bar("sessions on sale", len(plan.sessions)) as bar:

        def progress(done: int, total: int) -> None:
            bar.update(bar.task_ids[0], completed=done, total=total)

        opened = await open_sessions(pool, inventory, plan.locations, plan.sessions, progress)
    if opened.total > opened.sessions:
        display.say(
            f"      {opened.total - opened.sessions:,} sessions were open before; they stay as they are"
        )
    return Opened(len(plan.locations), opened.total, 0)


async def _free_seats(pool: Any, nodes: Nodes) -> int:
    """Free seats of all sessions, as Redis has them now."""
    keyspace, free = nodes.keyspace, 0
    commands: list[tuple[int, Command]] = []
    for session, location in await pool.fetch(query("session.places")):
        partition = keyspace.of_location(location)
        commands.append((partition, ("GET", keyspace.session(partition, session))))
    for at in range(0, len(commands), limits.OPEN_SESSIONS_MAX):
        stocks = await nodes.ask(commands[at : at + limits.OPEN_SESSIONS_MAX])
        free += sum(seats.count_free(codec.stock(stock)[2]) for stock in stocks if stock)
    return free
