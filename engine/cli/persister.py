"""`dosebook persister`: carries the outboxes to Postgres until it is stopped."""

import argparse
import asyncio
import contextlib
import gc
import signal
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from engine import limits
from engine.cli.stores import add_store_arguments, settings_of

if TYPE_CHECKING:
    from engine.outbox.metrics import Metrics
    from engine.outbox.persister import Stores

SUMMARY = "carry committed bookings from Redis to Postgres"
DESCRIPTION = """\
Reads the outboxes of all partitions and writes courses and appointments to Postgres, each event exactly
once. One persister works at a time; a second one waits for the first to end. Stop it with SIGTERM: the
batch under way is finished. Killing it loses nothing, and one that is stopped is replaced within ten seconds.
With DOSEBOOK_ACKNOWLEDGE=replica it commits nothing that the replicas do not have.

  ./dosebook persister --metrics-port 9101
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the stores are, and the port of the metrics."""
    add_store_arguments(parser)
    parser.add_argument(
        "--metrics-port", type=int, metavar="PORT", help="serve Prometheus metrics on 127.0.0.1:PORT"
    )


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if a setting is missing or another persister has taken over."""
    from engine.errors import PersisterReplaced
    from engine.outbox.metrics import Metrics
    from engine.outbox.persister import Stores
    from engine.redis.keyspace import Keyspace
    from engine.settings import SettingError, replicas_of

    try:
        settings = settings_of(args)
        keyspace = Keyspace(settings.partitions)
        stores = Stores(settings.redis_url, settings.database_url, keyspace, replicas_of(settings))
        metrics = Metrics()
        with _served(metrics, args.metrics_port):
            asyncio.run(_persist(stores, metrics))
    except (SettingError, PersisterReplaced, OSError) as error:
        print(f"dosebook: {error}", file=sys.stderr)
        return 1
    return 0


async def _persist(stores: "Stores", metrics: "Metrics") -> None:
    """Persist, and tidy beside it, until SIGTERM or SIGINT."""
    from engine.outbox.persister import Persister

    gc.set_threshold(*limits.COLLECTOR_THRESHOLDS)
    persister = Persister(stores, metrics, _say)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, persister.stop)
    tidying = asyncio.create_task(_tidy(stores))
    tidying.add_done_callback(_tell_end)
    try:
        await persister.run()
    finally:
        tidying.cancel()
        await asyncio.gather(tidying, return_exceptions=True)


async def _tidy(stores: "Stores") -> None:
    """End holds that are over, and what dead processes left in doubt, by the protocol's own steps."""
    from engine.booking.drive import start
    from engine.booking.janitor import Janitor
    from engine.booking.move import settle_part
    from engine.booking.resolve import resolve
    from engine.booking.steps import Placement
    from engine.inventory import codec
    from engine.recovery.sweep import Sweep
    from engine.redis.batch import Batcher
    from engine.redis.nodes import FAULTS, Nodes
    from engine.storage.epochs import epochs_when_founded

    nodes = Nodes(stores.redis_url, stores.keyspace)
    epochs = await epochs_when_founded(stores.database_url, stores.keyspace.partitions)

    async def follow_epochs() -> None:
        while True:
            with contextlib.suppress(*FAULTS):
                await nodes.refresh()
            await asyncio.sleep(limits.SWEEP_S / 2)
            epochs.update(await epochs_when_founded(stores.database_url, stores.keyspace.partitions))

    batcher = Batcher(nodes, epochs.__getitem__)
    placement = Placement(stores.keyspace, batcher.clocks.not_after)

    async def resolve_one(person: bytes, kind: int, live: codec.Live) -> bool:
        return await start(resolve(person, kind, live, placement), batcher)

    async def settle_one(part: codec.PartId, record: codec.Part, where: int) -> bool:
        return await start(settle_part(part, record, where), batcher)

    sweep = Sweep(nodes, resolve_one, settle_one, _say)
    janitor = Janitor(stores.keyspace.partitions, batcher, _say)
    try:
        async with asyncio.TaskGroup() as group:
            for work in (follow_epochs(), sweep.run(), janitor.run()):
                group.create_task(work)
    finally:
        await batcher.close()
        await nodes.aclose()


@contextlib.contextmanager
def _served(metrics: "Metrics", port: int | None) -> Iterator[None]:
    """Serve the metrics on loopback, if a port is given."""
    from prometheus_client import start_http_server

    if port is None:
        yield
        return
    server, thread = start_http_server(port, addr="127.0.0.1", registry=metrics.registry)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _tell_end(task: "asyncio.Task[None]") -> None:
    """It does not end by itself: without it, holds end only where somebody wants their seats."""
    if not task.cancelled() and (error := task.exception()):
        _say(f"tidying has ended: {error!r}")


def _say(line: str) -> None:
    print(f"persister: {line}", file=sys.stderr, flush=True)
