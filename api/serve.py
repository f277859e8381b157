"""Serves the app in this process: ``python -m api.serve --fd N`` or ``--port N``.

With ``--fd`` it accepts on a listening socket that its parent has bound, so that several processes share one
address and none is lost when one of them is replaced. SIGTERM stops accepting, answers what is under way
within ``STOP_S``, and closes the engine.
"""

import argparse
import logging
import socket
import sys
from collections.abc import Callable, Sequence

import structlog
import uvicorn
from litestar.types import ASGIApp

from api.app import create_app
from engine.settings import SettingError, Settings, from_environment

STOP_S = 5
BACKLOG = 4096


def main(arguments: Sequence[str] | None = None, app: Callable[[Settings], ASGIApp] = create_app) -> None:
    """Serve what ``app`` makes of the settings until told to stop."""
    options = _options(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    try:
        application = app(from_environment())
    except SettingError as error:
        sys.exit(f"dosebook: {error}")
    config = uvicorn.Config(
        application,
        host=options.host,
        port=options.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        backlog=BACKLOG,
        timeout_graceful_shutdown=STOP_S,
    )
    sockets = None if options.fd is None else [socket.socket(fileno=options.fd)]
    server = uvicorn.Server(config)
    server.run(sockets)
    if not server.started:
        sys.exit(3)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m api.serve", description="Serve the API in this process.")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fd", type=int, help="number of an inherited listening socket")
    where.add_argument("--port", type=int, default=0, help="port to listen on")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on with --port")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
