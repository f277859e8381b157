"""`dosebook run`: everything on this machine, a surge, the audit; then it stays up and serves."""

import argparse
import os
import sys
from pathlib import Path

from engine.cli.layout import add_layout_arguments, layout_of
from engine.settings import SettingError

SUMMARY = "start everything here, send a surge of people, audit, then stay up"
DESCRIPTION = """\
Starts Redis and Postgres, opens the 1,575 vaccination centres of France for 91 days, starts the persister and
the API, and sends a surge of invented people shaped like the evening of 12 July 2021 over HTTP: each of them
registers, searches near home, books both doses, and tries elsewhere after a refusal. Then everything is
audited against everything, and the service stays up until Ctrl-C. Exit status 1 if the audit finds anything
or somebody stayed without an answer.

  ./dosebook run                             20,000 people, about two minutes
  ./dosebook run --citizens 2000 --exit      a short one that ends by itself
  ./dosebook run --no-surge                  only serve, with all seats on sale
  ./dosebook run --data-dir var/demo         keep the data; the next run goes on with it
  ./dosebook run --cluster                   three Redis masters share the partitions
  ./dosebook run --cluster --replicas 1      and each has a replica, which takes over if its master is lost

--acknowledge says when a booking is told to the citizen, and so what it survives:

  fsync      it is on the disk of its Redis: survives kill -9 and power loss, but not a replica taking over
  replica    every replica of that Redis has it too: survives the loss of a master with its disk
  postgres   Postgres has committed it: survives the loss of every Redis

REDIS_URL and DATABASE_URL name servers of your own. Everything listens on this machine only.
"""
SEED = 20210712
PORT = 8000
CITIZENS = 20_000
FREE_PAIRS_PER_CITIZEN = 0.65
REAL = "real"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options; the defaults are those of the demonstration."""
    add = parser.add_argument
    add("--citizens", type=_positive, default=CITIZENS, metavar="N", help=f"people who come ({CITIZENS})")
    pairs = f"free pairs of doses for each citizen ({FREE_PAIRS_PER_CITIZEN})"
    stock = f"{pairs}, or 'real': all of them, as without a surge"
    add("--stock", type=_stock, default=None, metavar="S", help=stock)
    add("--exit", action="store_true", help="leave after the audit")
    add("--rebuild", action="store_true", help="first restore from Postgres what Redis has lost since")
    add("--no-surge", action="store_true", help="nobody comes: only serve")
    add("--json", type=Path, metavar="FILE", help="write the result there")
    add("--data-dir", type=Path, metavar="DIR", help="keep the data there (a temporary directory, removed)")
    add(
        "--port", type=int, default=PORT, metavar="N", help=f"of the API; the next free one if taken ({PORT})"
    )
    workers = max(1, (os.cpu_count() or 1) // 2)
    add("--workers", type=_positive, default=workers, metavar="N", help=f"API processes ({workers} here)")
    add_layout_arguments(parser)
    add("--seed", type=int, default=SEED, metavar="N", help="the same seed draws the same stock and people")


def run(args: argparse.Namespace) -> int:
    """Exit status 1 if the audit found anything or a citizen stayed unanswered."""
    from engine.cli.evening import evening

    if args.no_surge and (args.json or args.exit):
        print("dosebook: --no-surge has no result: leave out --json and --exit", file=sys.stderr)
        return 2
    try:
        args.layout = layout_of(args)
    except SettingError as error:
        print(f"dosebook: {error}", file=sys.stderr)
        return 2
    if args.stock is None:
        args.stock = REAL if args.no_surge else FREE_PAIRS_PER_CITIZEN
    return evening(args)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _stock(text: str) -> float | str:
    if text == REAL:
        return REAL
    try:
        stock = float(text)
    except ValueError:
        stock = -1.0
    if not 0 <= stock < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither 'real' nor a number from 0")
    return stock
