"""Seats are held while people check their answers: confirmed, prolonged, given back, or over."""

import uuid
from datetime import UTC, datetime

from tests.acceptance.rows import wait_for_state
from tests.acceptance.texts import kind_of
from tests.campaign import AMPLE, SMALL, Service
from tests.servers.processes import wait_until


def test_hold_extend_confirm(service: Service) -> None:
    person, key = service.register(), str(uuid.uuid4())
    wishes = service.campaign.wishes(AMPLE, 5, days=(3, 33))
    held = service.book(person, {**wishes, "hold": True}, key)
    body = held.json()
    assert (held.status_code, body["status"]) == (201, "held")
    until = datetime.fromisoformat(body["hold_until"])
    assert 0 < (until - datetime.now(UTC)).total_seconds() <= 300
    assert service.book(person, {**wishes, "hold": True}, key).json() == body
    wait_for_state(service, body, "h")

    at = f"/v1/bookings/{body['booking']}"
    for _ in range(2):
        extended = service.write("POST", f"{at}/extension")
        assert extended.status_code == 200
        assert datetime.fromisoformat(extended.json()["hold_until"]) >= until
    refused = service.write("POST", f"{at}/extension")
    assert (refused.status_code, kind_of(refused)) == (409, "extended-too-often")

    confirmed = service.write("POST", f"{at}/confirmation", key=key + "-c")
    assert confirmed.status_code == 200
    assert confirmed.json() == {**{k: v for k, v in body.items() if k != "hold_until"}, "status": "booked"}
    assert service.write("POST", f"{at}/confirmation", key=key + "-c").content == confirmed.content
    assert service.http.get(at).json() == confirmed.json()
    wait_for_state(service, confirmed.json())


def test_a_hold_is_given_back(service: Service) -> None:
    held = service.book(service.register(), {**service.campaign.wishes(SMALL, 4), "hold": True})
    cancelled = service.write("DELETE", held.headers["location"])
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    wait_for_state(service, held.json(), "x")
    gone = service.write("POST", f"{held.headers['location']}/confirmation")
    assert (gone.status_code, kind_of(gone)) == (409, "hold-over")


def test_one_hold_for_a_person_whatever_the_kind(service: Service) -> None:
    person = service.register()
    assert service.book(person, {**service.campaign.wishes(AMPLE, 5), "hold": True}).status_code == 201
    given = {"vaccine": "pfizer", "day": "2021-06-01"}
    first = {"dose1": service.campaign.wishes(AMPLE, 5)["dose1"], "kind": "booster", "given": given}
    refused = service.book(person, {**first, "hold": True})
    assert (refused.status_code, kind_of(refused)) == (409, "already-booked")


def test_a_hold_that_is_over_is_told_plainly(brief: Service) -> None:
    held = brief.book(brief.register(), {**brief.campaign.wishes(AMPLE, 5), "hold": True})
    at = held.headers["location"]
    assert brief.write("POST", f"{at}/extension").status_code == 200
    wait_until(lambda: brief.http.get(at).json()["status"] == "expired", "the hold is over")
    for path in (f"{at}/confirmation", f"{at}/extension"):
        refused = brief.write("POST", path)
        assert (refused.status_code, kind_of(refused)) == (409, "hold-over")
        assert "given back" in refused.json()["detail"]
    assert "hold_until" not in brief.http.get(at).json()
    wait_for_state(brief, held.json(), "x")
