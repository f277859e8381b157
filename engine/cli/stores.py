"""Options that name the two stores, for commands that work on a deployment which is up already."""

import argparse
import os

from engine.settings import Settings, from_environment


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """``--redis-url``, ``--database-url``, ``--partitions``; the environment has the defaults."""
    kinds = "redis://, unix://, or redis+cluster://host:port,host:port (REDIS_URL)"
    parser.add_argument("--redis-url", metavar="URL", help=kinds)
    parser.add_argument("--database-url", metavar="URL", help="postgresql:// (DATABASE_URL)")
    parser.add_argument(
        "--partitions", metavar="N", help="as the service was founded (DOSEBOOK_PARTITIONS, 1)"
    )


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings of the environment, options first. Raises ``SettingError`` for what is missing.

    The secrets are not asked for: a command that needs them opens ``DOSEBOOK_SECRETS_DIR`` itself.
    """
    options = {
        "REDIS_URL": args.redis_url,
        "DATABASE_URL": args.database_url,
        "DOSEBOOK_PARTITIONS": args.partitions,
    }
    given = {name: value for name, value in options.items() if value is not None}
    return from_environment({"DOSEBOOK_SECRETS_DIR": os.curdir, **os.environ, **given})
