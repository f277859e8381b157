"""Redis goes while the API serves: killed, it sells again by itself; emptied, `dosebook rebuild` mends it."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import time
import uuid
from functools import partial
from pathlib import Path

import redis

from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.acceptance.rows import wait_for_rows
from tests.campaign import AMPLE, ROOT, Service, open_service
from tests.servers.processes import wait_until

PARTITIONS = 3
SELLS_AGAIN_S_MAX = 5.0


def rebuild(settings: Settings, result: Path) -> subprocess.CompletedProcess[str]:
    options = ["--all", "--json", str(result), "--partitions", str(settings.partitions)]
    options += ["--redis-url", settings.redis_url, "--database-url", settings.database_url]
    command = [sys.executable, "-m", "engine.cli", "rebuild", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, cwd=ROOT, text=True, capture_output=True, check=False)


def is_ready(service: Service) -> bool:
    return service.http.get("/health/ready").status_code == 200


def test_the_api_names_what_is_lost_and_goes_on_after_the_rebuild(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    database = asyncio.run(postgres_server.create_database(f"rebuild_{secrets.token_hex(4)}"))
    with DataDir.make_temporary() as data, RedisServer(data) as server:
        settings = Settings(server.url, database, tmp_path / "secrets", PARTITIONS)
        with open_service(settings, tmp_path) as service:
            person, key, wishes = service.register(), str(uuid.uuid4()), service.campaign.wishes(AMPLE)
            booked = service.book(person, wishes, key)
            wait_for_rows(service, booked.json()["booking"], live=True)
            with redis.Redis.from_url(server.url) as client:
                client.flushall()
            lost = service.http.get("/health/ready")
            assert lost.status_code == 503
            assert set(lost.json()["closed"]) == {str(partition) for partition in range(PARTITIONS)}
            assert service.book(service.register(), wishes).status_code == 503

            done = rebuild(settings, tmp_path / "rebuilt.json")
            assert done.returncode == 0, done.stderr
            figures = json.loads((tmp_path / "rebuilt.json").read_bytes())
            assert figures["epochs"] == {str(partition): 2 for partition in range(PARTITIONS)}
            assert figures["courses"] == figures["guards"] == 1

            wait_until(lambda: is_ready(service), "the API sells under the new epoch", 5)
            assert service.book(person, wishes, key).json() == booked.json()
            assert service.book(person, wishes).status_code == 409
            wait_until(lambda: _shows_places(service), "the board is loaded anew", 10)
            again = service.book(service.register(), wishes)
            assert again.status_code == 201
            wait_for_rows(service, again.json()["booking"], live=True)


def test_a_killed_redis_sells_again_within_five_seconds(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    """Nobody helps: the persister compares and certifies the restarted process, the API takes its word."""
    database = asyncio.run(postgres_server.create_database(f"killed_{secrets.token_hex(4)}"))
    with DataDir.make_temporary() as data, RedisServer(data) as server:
        settings = Settings(server.url, database, tmp_path / "secrets", PARTITIONS)
        with open_service(settings, tmp_path) as service:
            for _ in range(3):
                sells = partial(_sells, service, service.register(), str(uuid.uuid4()))
                began = time.monotonic()
                server.kill()
                server.stop()
                server.start()
                wait_until(sells, "a booking", 10)
                assert time.monotonic() - began < SELLS_AGAIN_S_MAX


def _sells(service: Service, person: str, key: str) -> bool:
    return service.book(person, service.campaign.wishes(AMPLE), key).status_code == 201


def _shows_places(service: Service) -> bool:
    answer = service.http.get("/v1/availability", params={"postcode": "75011", "vaccine": "pfizer"})
    return bool(answer.json().get("places"))
