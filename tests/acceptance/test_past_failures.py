"""What went wrong in 2021, and cannot here; each docstring names the failure that is excluded."""

import os
import signal
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.servers.data_dir import DataDir
from engine.servers.postgres import PostgresServer
from engine.servers.redis import RedisServer
from engine.settings import Settings
from tests.acceptance.rows import count_live, person_key_of, wait_for_state
from tests.acceptance.texts import kind_of
from tests.campaign import AMPLE, FAR, LONE, SMALL, Service, open_campaign, serving
from tests.servers.processes import wait_until


def test_dose_2_is_moved_without_losing_it(service: Service) -> None:
    """NHS 2021: to move dose 2, people had to cancel it, and often found no other.

    A move to a full slot changes nothing; one to a free slot takes the new seat before it gives the old back.
    """
    campaign = service.campaign
    booked = service.book(service.register(), campaign.wishes(AMPLE, days=(2, 30))).json()
    full = {"session": campaign.session(SMALL, 30), "slot": 0}
    wishes = {**campaign.wishes(SMALL, days=(2, 30)), "dose2": full}
    rival = service.book(service.register(), wishes)
    assert rival.status_code == 201
    moves = f"/v1/bookings/{booked['booking']}/moves"

    refused = service.write("POST", moves, {"dose2": full})
    assert (refused.status_code, kind_of(refused)) == (409, "slot-full")
    assert service.http.get(f"/v1/bookings/{booked['booking']}").json() == booked
    wait_for_state(service, booked)

    moved = service.write("POST", moves, {"dose2": {"session": campaign.session(AMPLE, 32), "slot": 5}})
    assert moved.status_code == 200
    first, second = moved.json()["appointments"]
    assert first == booked["appointments"][0]
    assert (second["session"], second["slot"]) == (campaign.session(AMPLE, 32), 5)
    wait_for_state(service, moved.json())
    service.write("DELETE", rival.headers["location"])


@pytest.fixture
def mortal(postgres_server: PostgresServer, tmp_path: Path) -> Iterator[Settings]:
    """Stores of a service whose processes a test may kill; three partitions."""
    import asyncio

    name = f"mortal_{uuid.uuid4().hex[:8]}"
    database = asyncio.run(postgres_server.create_database(name))
    with DataDir.make_temporary() as data, RedisServer(data) as redis:
        yield Settings(redis.url, database, tmp_path / "secrets", 3)


def test_a_move_while_the_site_dies_keeps_an_appointment(mortal: Settings, tmp_path: Path) -> None:
    """VAMS 2021: people were told to cancel first and book again; when the site died between, they had none.

    The API is killed among moves, some to other locations. Everybody has both doses afterwards, old or new,
    and the same request again is the same move.
    """
    import asyncio

    from engine.servers.ports import listen

    campaign = asyncio.run(open_campaign(mortal))
    first = listen(0)
    with serving(mortal, tmp_path, first) as processes, httpx.Client(base_url=first.url, timeout=15) as http:
        service = Service(first.url, http, mortal, campaign, processes)
        booked = [
            service.book(service.register(), campaign.wishes(AMPLE, number % 8, (1, 31))).json()
            for number in range(24)
        ]
        with ThreadPoolExecutor(12) as threads:
            futures = [
                threads.submit(_move, first.url, body, campaign.wishes(place, number % 8, (2, 32)), number)
                for number, body in enumerate(booked)
                for place in ((AMPLE, FAR)[number % 2],)
            ]
            wait_until(lambda: any(future.done() for future in futures), "a move is answered")
            os.kill(processes["api"].pid, signal.SIGKILL)
            answers = [future.result() for future in futures]
    second = listen(0)
    with (
        serving(mortal, tmp_path, second) as processes,
        httpx.Client(base_url=second.url, timeout=15) as http,
    ):
        service = Service(second.url, http, mortal, campaign, processes)
        for number, (body, told) in enumerate(zip(booked, answers, strict=True)):
            found = http.get(f"/v1/bookings/{body['booking']}").json()
            assert found["status"] == "booked"
            assert [one["dose"] for one in found["appointments"]] == [1, 2]
            place = (AMPLE, FAR)[number % 2]
            wishes = campaign.wishes(place, number % 8, (2, 32))
            again = _move(second.url, body, wishes, number)
            assert again is not None
            assert again["status"] == "booked"
            assert [{"session": a["session"], "slot": a["slot"]} for a in again["appointments"]] == [
                wishes["dose1"],
                wishes["dose2"],
            ]
            assert told in (None, again)
            wait_for_state(service, again)


def _move(url: str, body: dict[str, Any], wishes: dict[str, Any], number: int) -> dict[str, Any] | None:
    """The moved booking, or None where no answer came."""
    with httpx.Client(base_url=url, timeout=15) as http:
        try:
            answer = http.post(
                f"/v1/bookings/{body['booking']}/moves",
                json=wishes,
                headers={"Idempotency-Key": f"move-number-{number}"},
            )
        except httpx.TransportError:
            return None
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("dose", [1, 2])
def test_a_cancelled_seat_can_be_booked_at_once_for_either_dose(service: Service, dose: int) -> None:
    """CoWIN 2021: cancelled seats came back hours later, or as first doses only."""
    campaign = service.campaign
    wishes = campaign.wishes(SMALL, 1, days=(1, 31))
    booked = service.book(service.register(), wishes)
    assert booked.status_code == 201
    slot = wishes[f"dose{dose}"]
    other = campaign.wishes(AMPLE, 1, days=(1, 31))
    wanted = {**other, f"dose{dose}": slot}
    person = service.register()
    assert kind_of(service.book(person, wanted)) == "slot-full"
    assert service.write("DELETE", booked.headers["location"]).status_code == 200
    again = service.book(person, wanted)
    assert again.status_code == 201
    wait_for_state(service, again.json())
    assert service.write("DELETE", again.headers["location"]).status_code == 200


def test_whoever_needs_one_dose_is_not_made_to_book_two(service: Service) -> None:
    """France 2021: who had had Covid-19 needed one dose, and could only book pairs: the second was lost."""
    person = service.register(groups=["recovered"])
    single = {"dose1": service.campaign.wishes(AMPLE, 2)["dose1"]}
    booked = service.book(person, single)
    assert booked.status_code == 201
    assert [one["dose"] for one in booked.json()["appointments"]] == [1]
    wait_for_state(service, booked.json())

    refused = service.book(service.register(), single)
    assert (refused.status_code, kind_of(refused)) == (422, "second-dose-needed")


def test_one_person_cannot_hold_eleven_appointments(service: Service) -> None:
    """France 2021: people booked at several centres, on several platforms, and came to one of them.

    Whatever the location, the channel and the spelling of the name, a person has one course of a kind.
    """
    name = "".join(chr(ord("a") + int(c, 16)) for c in uuid.uuid4().hex)
    person = service.register(name)
    assert service.book(person, service.campaign.wishes(AMPLE, 3)).status_code == 201
    near = {"near": {"postcode": "75011"}}
    attempts = [
        ("/v1/bookings", {"person": service.register(spelled), **service.campaign.wishes(place, 3), **more})
        for spelled in (name.upper(), f" {name} ")
        for place in (AMPLE, SMALL, FAR, LONE)
        for more in ({}, {"hold": True})
        if place != LONE
    ]
    attempts += [
        ("/v1/wishes", {"people": [{"person": person}], **near}),
        ("/v1/wishes", {"people": [{"person": person}, {"person": service.register()}], **near}),
        ("/v1/households", {"members": [{"person": person, **service.campaign.wishes(AMPLE, 4)}]}),
        ("/v1/waitlist", {"people": [{"person": person}], **near}),
    ]
    for path, body in attempts:
        refused = service.write("POST", path, body)
        assert (refused.status_code, kind_of(refused)) == (409, "already-booked"), (path, refused.text)
    key = person_key_of(service, person)
    wait_until(lambda: count_live(service, key) == 2, "Postgres has both doses, and no more")


def test_a_hold_ends_and_its_seats_come_back(brief: Service) -> None:
    """CoWIN 2021: seats vanished while people typed a captcha, and those of who gave up did not come back.

    Held seats are the holder's until the time is over; then anybody has them, at once.
    """
    wishes = brief.campaign.wishes(SMALL, 2)
    held = brief.book(brief.register(), {**wishes, "hold": True})
    assert held.status_code == 201
    assert held.json()["status"] == "held"
    assert kind_of(brief.book(brief.register(), wishes)) == "slot-full"
    person, answers = brief.register(), list[httpx.Response]()

    def is_booked() -> bool:
        answers.append(brief.book(person, wishes))
        return answers[-1].status_code == 201

    wait_until(is_booked, "the seats are back")
    wait_for_state(brief, answers[-1].json())
    wait_for_state(brief, held.json(), "x")


def test_the_confirmed_hold_keeps_its_seats(brief: Service) -> None:
    """CoWIN 2021, the other half: who confirmed in time has the very seats that were held."""
    wishes = brief.campaign.wishes(SMALL, 3)
    held = brief.book(brief.register(), {**wishes, "hold": True}).json()
    confirmed = brief.write("POST", f"/v1/bookings/{held['booking']}/confirmation")
    assert confirmed.status_code == 200
    assert confirmed.json()["appointments"] == held["appointments"]
    wait_for_state(brief, confirmed.json())
