"""Locust scenario: people register, search near home and book both doses.

    ./dosebook run --no-surge --stock real
    .venv/bin/locust -f loadtests/locustfile.py --headless -u 50 -r 25 -t 30s -H http://127.0.0.1:8000

A refusal (409) is an answer and counts as success; anything else that is not 2xx is a failure.
"""

import random
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from locust import FastHttpUser, between, task

from loadtests.people import RUNS_MAX, Person, people

PEOPLE_PER_START = 200_000
RADII_KM = (20, 50, 120)


def _crowd() -> Iterator[Person]:
    """People that no other start has: the clock chooses the run number and the seed."""
    start = int(time.time())
    return people(PEOPLE_PER_START, start % RUNS_MAX, start, datetime.now(UTC).date())


_people = _crowd()


class Citizen(FastHttpUser):
    """One virtual user is one person after the other."""

    wait_time = between(0.1, 0.5)

    @task
    def book_both_doses(self) -> None:
        """Register, search wider and wider, book the first pair that is given."""
        person = next(islice(_people, 1))
        key = self._register(person)
        for radius_km in RADII_KM:
            pair = self._search(person.postcode, radius_km)
            if key and pair and self._book(key, pair):
                return

    def _register(self, person: Person) -> str | None:
        body = person.registration() | {"birth_date": person.birth_date.isoformat()}
        with self._post("/v1/persons", body) as response:
            return response.js["person"] if response.status_code in (200, 201) else None

    def _search(self, postcode: str, radius_km: int) -> dict[str, Any] | None:
        path = f"/v1/availability?postcode={postcode}&radius_km={radius_km}&limit=5"
        with self.rest("GET", path, name="/v1/availability") as response:
            places = response.js["places"] if response.status_code == 200 else []
        pairs = [pair for place in places for pair in place["pairs"]]
        return random.choice(pairs) if pairs else None

    def _book(self, person: str, pair: dict[str, Any]) -> bool:
        body = {"person": person} | {
            dose: {"session": pair[dose]["session"], "slot": pair[dose]["slot"]}
            for dose in ("dose1", "dose2")
        }
        with self._post("/v1/bookings", body) as response:
            if response.status_code == 409:
                response.success()
            return bool(response.status_code in (200, 201))

    def _post(self, path: str, body: dict[str, Any]) -> Any:
        return self.rest("POST", path, json=body, headers={"Idempotency-Key": str(uuid.uuid4())})
