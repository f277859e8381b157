"""Runs both servers and a worker with a child of its own under a supervisor, until a signal.

Prints one line of JSON when all are ready; then waits. `--stubborn` makes the worker ignore SIGTERM.
"""

import asyncio
import json
import sys

from engine.servers.command import Command
from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.servers.supervisor import Event, State, Supervisor

# A worker with a child: the grandchild tells its number through the worker's log.
WORKER = """
import signal, subprocess, sys, time
if "--stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


def tell(event: Event) -> None:
    if event.state is State.STOPPED:
        say(stopped=event.name)


async def run(arguments: list[str]) -> None:
    with DataDir.open() as data:
        log = data.log_of("worker")
        worker = Command(
            "worker",
            [sys.executable, "-c", WORKER, *arguments],
            data,
            ready=lambda: log.exists() and log.read_text().endswith("\n"),
        )
        async with Supervisor(data, on_event=tell) as supervisor:
            for child in (RedisServer(data), PostgresServer(data), worker):
                await supervisor.start(child)
            pids = {status.name: status.pid for status in supervisor.status()}
            say(pids=pids | {"grandchild": int(log.read_text())}, data=str(data.path))
            await supervisor.wait()
    say(stopped_by=supervisor.stopped_by)


if __name__ == "__main__":
    asyncio.run(run(sys.argv[1:]))
