"""A person registers, searches, books, looks, cancels: over HTTP, down to the rows of Postgres."""

import uuid
from datetime import datetime

import pytest

from tests.acceptance.rows import appointments_of, wait_for_rows
from tests.campaign import AMPLE, FAR, SMALL, Service, wishes_of
from tests.servers.processes import wait_until


def test_from_registration_to_the_rows(service: Service) -> None:
    person = service.register()
    found = service.http.get("/v1/availability", params={"postcode": "75011"}).json()
    place = found["places"][0]
    pair = place["pairs"][0]
    booked = service.book(person, {dose: _slot(pair[dose]) for dose in ("dose1", "dose2")})

    assert booked.status_code == 201
    body = booked.json()
    assert booked.headers["location"] == f"/v1/bookings/{body['booking']}"
    assert body["status"] == "booked"
    assert body["vaccine"] == "pfizer"
    assert body["location"]["id"] == place["location"]["id"]
    assert [a["starts_at"] for a in body["appointments"]] == [
        pair[d]["starts_at"] for d in ("dose1", "dose2")
    ]
    assert service.http.get(booked.headers["location"]).json() == body

    rows = wait_for_rows(service, body["booking"], live=True)
    assert [(r["dose"], r["session"], r["slot"], r["seat"]) for r in rows] == appointments_of(body)

    cancelled = service.write("DELETE", booked.headers["location"])
    assert cancelled.status_code == 200
    assert cancelled.json() == {**body, "status": "cancelled"}
    assert service.http.get(booked.headers["location"]).json()["status"] == "cancelled"
    wait_for_rows(service, body["booking"], live=False)


def test_a_repeated_write_gets_the_same_bytes_also_after_the_cancellation(service: Service) -> None:
    person, key = service.register(), str(uuid.uuid4())
    wishes = service.campaign.wishes(AMPLE, slot=2)
    first = service.book(person, wishes, key)
    second = service.book(person, wishes, key)
    cancellation = service.write("DELETE", first.headers["location"], key=key + "-cancel")
    again = service.write("DELETE", first.headers["location"], key=key + "-cancel")
    late = service.book(person, wishes, key)

    assert first.status_code == second.status_code == late.status_code == 201
    assert first.content == second.content == late.content
    assert first.headers["location"] == late.headers["location"]
    assert cancellation.content == again.content
    assert service.http.get(first.headers["location"]).json()["status"] == "cancelled"


def test_a_key_reused_for_another_wish_is_refused(service: Service) -> None:
    person, key = service.register(), str(uuid.uuid4())
    assert service.book(person, service.campaign.wishes(AMPLE, slot=3), key).status_code == 201
    other = service.book(person, service.campaign.wishes(AMPLE, slot=4), key)
    assert (other.status_code, other.json()["type"]) == (422, "urn:dosebook:problem:key-reused")


def test_one_person_has_one_booking_and_may_book_again_after_cancelling(service: Service) -> None:
    person, wishes = service.register(), service.campaign.wishes(AMPLE, slot=5)
    booked = service.book(person, wishes)
    refused = service.book(person, wishes)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:dosebook:problem:already-booked")
    assert service.write("DELETE", booked.headers["location"]).status_code == 200
    again = service.book(person, wishes)
    assert again.status_code == 201
    assert again.json()["booking"] != booked.json()["booking"]


def test_a_full_slot_is_refused_with_other_slots_of_the_session(service: Service) -> None:
    wishes = service.campaign.wishes(SMALL, slot=6)
    assert service.book(service.register(), wishes).status_code == 201
    person = service.register()
    refused = service.book(person, wishes)
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (409, "urn:dosebook:problem:slot-full")
    assert refused.headers["content-type"] == "application/problem+json"
    assert 1 <= len(problem["alternatives"]) <= 3
    offered = [problem]

    def can_be_booked() -> bool:
        """The second dose's slot is full too, which the board may not know yet at the first refusal."""
        chosen = offered[-1]["alternatives"][0]
        answer = service.book(person, {dose: _slot(chosen[dose]) for dose in ("dose1", "dose2")})
        offered.append(answer.json())
        return answer.status_code == 201

    wait_until(can_be_booked, "an alternative can be booked")
    # Alternatives are drawn, so it may be a slot that another test counts on.
    assert service.write("DELETE", f"/v1/bookings/{offered[-1]['booking']}").status_code == 200


def test_a_refused_second_dose_keeps_the_first_where_it_can(service: Service) -> None:
    taken = service.campaign.wishes(SMALL, slot=7)
    assert service.book(service.register(), taken).status_code == 201
    wishes = {**service.campaign.wishes(AMPLE, slot=7), "dose2": taken["dose2"]}
    wishes["dose1"] = {"session": service.campaign.session(SMALL, 2), "slot": 3}
    problem = service.book(service.register(), wishes).json()
    assert problem["dose"] == 2
    first, _ = wishes_of(wishes)
    offered = [wishes_of(alternative)[0] for alternative in problem["alternatives"]]
    assert first in offered


def test_instants_carry_the_offset_of_the_location(service: Service) -> None:
    found = service.http.get("/v1/availability", params={"lat": -20.9, "lon": 55.4}).json()
    assert [place["location"]["id"] for place in found["places"]] == [FAR]
    for pair in found["places"][0]["pairs"]:
        assert pair["dose1"]["starts_at"].endswith("+04:00")
        assert datetime.fromisoformat(pair["dose1"]["starts_at"]).hour in (9, 10)


@pytest.mark.parametrize("spelling", ["Müller-d'Été", "MULLER D’ETE", "  muller   dété "])
def test_one_identity_is_one_person_however_it_is_written(service: Service, spelling: str) -> None:
    assert service.register(spelling) == service.register("Muller d'Ete")


def test_what_is_booked_leaves_the_search(service: Service) -> None:
    """The board of the process follows what it, or any other, books."""
    wishes = service.campaign.wishes(FAR, slot=1, days=(3, 33))
    for _ in range(3):
        assert service.book(service.register(), wishes).status_code == 201
    full = wishes["dose1"]

    def is_gone() -> bool:
        shown = [
            _slot(pair["dose1"])
            for _ in range(20)
            for place in service.http.get("/v1/availability?postcode=97400").json()["places"]
            for pair in place["pairs"]
        ]
        return bool(shown) and full not in shown

    wait_until(is_gone, "the full slot is shown no longer")


def _slot(choice: dict[str, int]) -> dict[str, int]:
    return {"session": choice["session"], "slot": choice["slot"]}


def test_the_api_documents_itself_without_asking_anybody_else(service: Service) -> None:
    found = service.http.get("/schema/openapi.json").json()
    write = found["paths"]["/v1/bookings"]["post"]
    assert "Idempotency-Key" in [parameter["name"] for parameter in write["parameters"]]
    assert "BookingIn" in str(write["requestBody"])
    assert "BookingOut" in str(write["responses"]["201"])
    assert "http" not in service.http.get("/schema").text.replace("https://spec.openapis.org", "")
