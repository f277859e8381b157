"""`python -m tests.stateful`: the stateful machine for as long as is wished."""

import argparse
import sys
import time

from engine.servers.cluster import ClusterServers
from engine.servers.data_dir import DataDir
from engine.servers.redis import RedisServer
from tests.client import client_of
from tests.stateful.test_protocol import STEPS, run


def main() -> int:
    """Raises where a rule is broken, with the steps that break it."""
    parser = argparse.ArgumentParser(prog="python -m tests.stateful")
    parser.add_argument("--runs", type=int, default=2_000)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--masters", type=int, choices=(1, 3), default=1)
    args = parser.parse_args()
    began = time.monotonic()
    settings = {"appendonly": "no"}
    with DataDir.make_temporary() as data:
        servers = RedisServer(data, settings=settings) if args.masters == 1 else ClusterServers(data)
        with servers as server, client_of(str(server.url)) as client:
            run(client, args.runs, args.steps)
    seconds = time.monotonic() - began
    ran = f"{args.runs} runs of {args.steps} steps, masters: {args.masters}"
    print(f"{ran}: no difference ({seconds:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
