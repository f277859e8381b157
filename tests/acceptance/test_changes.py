"""One dose or both go elsewhere, are given up, or come back: the course stays whole at every moment."""

import uuid
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from tests.acceptance.rows import wait_for_state
from tests.acceptance.texts import instants, kind_of
from tests.campaign import AMPLE, FAR, LATE, SMALL, Service

BOOSTED = {"vaccine": "pfizer", "day": "2021-06-01"}


def moved(service: Service, booked: httpx.Response, body: dict[str, Any], key: str = "") -> httpx.Response:
    """The answer to a move."""
    return service.write("POST", f"{booked.headers['location']}/moves", body, key)


def test_dose_2_is_given_up_and_comes_back(service: Service) -> None:
    """The same key gets the same answer, also when the course has changed since."""
    wishes, key = service.campaign.wishes(AMPLE, 2, days=(3, 33)), str(uuid.uuid4())
    booked = service.book(service.register(), wishes)
    at = booked.headers["location"]
    one = service.write("DELETE", f"{at}/doses/2", key=key)
    assert one.status_code == 200
    assert [a["dose"] for a in one.json()["appointments"]] == [1]
    assert one.json()["status"] == "booked"
    wait_for_state(service, one.json())
    assert kind_of(service.write("DELETE", f"{at}/doses/2")) == "no-such-dose"

    both = moved(service, booked, {"dose2": wishes["dose2"]}, key + "-2")
    assert both.status_code == 200
    assert [a["dose"] for a in both.json()["appointments"]] == [1, 2]
    wait_for_state(service, both.json())
    assert moved(service, booked, {"dose2": wishes["dose2"]}, key + "-2").content == both.content
    assert service.http.get(at).json() == both.json()


def test_a_change_keeps_its_answer_after_the_cancellation(service: Service) -> None:
    wishes, key = service.campaign.wishes(AMPLE, 3, days=(3, 33)), str(uuid.uuid4())
    booked = service.book(service.register(), wishes)
    at = booked.headers["location"]
    slot = {"dose2": service.campaign.wishes(AMPLE, 4, days=(3, 32))["dose2"]}
    there = moved(service, booked, slot, key)
    one = service.write("DELETE", f"{at}/doses/2", key=key + "-2")
    assert (there.status_code, one.status_code) == (200, 200)
    assert service.write("DELETE", at).status_code == 200
    assert moved(service, booked, slot, key).content == there.content
    assert service.write("DELETE", f"{at}/doses/2", key=key + "-2").content == one.content
    assert service.http.get(at).json()["status"] == "cancelled"


def test_doses_of_a_hold_do_not_change_one_by_one(service: Service) -> None:
    held = service.book(service.register(), {**service.campaign.wishes(AMPLE, 3, days=(3, 33)), "hold": True})
    at = held.headers["location"]
    slot = {"dose2": service.campaign.wishes(AMPLE, 4, days=(3, 32))["dose2"]}
    for answer in (moved(service, held, slot), service.write("DELETE", f"{at}/doses/2")):
        assert (answer.status_code, kind_of(answer)) == (409, "still-held")
    assert service.http.get(at).json() == held.json()
    assert service.write("DELETE", at).status_code == 200


def test_with_dose_1_every_dose_goes(service: Service) -> None:
    booked = service.book(service.register(), service.campaign.wishes(AMPLE, 2, days=(3, 33)))
    gone = service.write("DELETE", f"{booked.headers['location']}/doses/1")
    assert (gone.status_code, gone.json()["status"]) == (200, "cancelled")
    assert service.http.get(booked.headers["location"]).json()["status"] == "cancelled"
    wait_for_state(service, booked.json(), "x")
    refused = moved(service, booked, service.campaign.wishes(AMPLE, 2))
    assert (refused.status_code, kind_of(refused)) == (404, "not-found")


def test_a_move_of_dose_1_that_dose_2_does_not_fit_names_repairs(service: Service) -> None:
    """Nothing changes until both doses are sent."""
    booked = service.book(service.register(), service.campaign.wishes(AMPLE, 3, days=(1, 31)))
    later = {"session": service.campaign.session(AMPLE, LATE), "slot": 1}
    refused = moved(service, booked, {"dose1": later})
    problem = refused.json()
    assert (refused.status_code, kind_of(refused)) == (422, "interval")
    day = service.campaign.today + timedelta(days=LATE + 21)
    assert (problem["dose"], problem["from_day"]) == (2, day.isoformat())
    assert 1 <= len(problem["repairs"]) <= 3
    assert service.http.get(booked.headers["location"]).json() == booked.json()
    wait_for_state(service, booked.json())

    repair = problem["repairs"][0]["dose2"]
    assert datetime.fromisoformat(repair["starts_at"]).date() >= day
    both = {"dose1": later, "dose2": {"session": repair["session"], "slot": repair["slot"]}}
    mended = moved(service, booked, both)
    assert mended.status_code == 200
    assert [{"session": a["session"], "slot": a["slot"]} for a in mended.json()["appointments"]] == [
        both["dose1"],
        both["dose2"],
    ]
    wait_for_state(service, mended.json())


def test_dose_2_is_at_another_location_in_the_same_booking(service: Service) -> None:
    wishes = {
        **service.campaign.wishes(AMPLE, 4),
        "dose2": {"session": service.campaign.session(FAR, 31), "slot": 2},
    }
    booked = service.book(service.register(), wishes)
    assert booked.status_code == 201
    body = booked.json()
    assert [a["location"] for a in body["appointments"]] == [AMPLE, FAR]
    assert body["location"]["id"] == AMPLE
    assert [place["id"] for place in body["elsewhere"]] == [FAR]
    assert [a["starts_at"][-6:] for a in body["appointments"]] == [
        _offset(service, "Europe/Paris", 1),
        "+04:00",
    ]
    assert service.http.get(booked.headers["location"]).json() == body
    wait_for_state(service, body)

    home = moved(service, booked, {"dose2": {"session": service.campaign.session(AMPLE, 31), "slot": 4}})
    assert home.status_code == 200
    assert "elsewhere" not in home.json()
    wait_for_state(service, home.json())
    cancelled = service.write("DELETE", booked.headers["location"])
    assert cancelled.json()["status"] == "cancelled"
    wait_for_state(service, body, "x")


def test_a_booster_is_a_course_of_its_own(service: Service) -> None:
    person = service.register()
    primary = service.book(person, service.campaign.wishes(AMPLE, 6))
    dose = service.campaign.wishes(AMPLE, 7)["dose1"]
    booster = service.book(person, {"dose1": dose, "kind": "booster", "given": BOOSTED})
    assert (primary.status_code, booster.status_code) == (201, 201)
    assert [a["dose"] for a in booster.json()["appointments"]] == [1]
    wait_for_state(service, primary.json())
    wait_for_state(service, booster.json())
    missing = service.book(service.register(), {"dose1": dose, "kind": "booster"})
    assert (missing.status_code, kind_of(missing)) == (422, "given-missing")


def test_a_second_dose_alone_follows_a_declared_first(service: Service) -> None:
    second = service.campaign.wishes(AMPLE, 6)["dose2"]
    person, day = service.register(), service.campaign.today - timedelta(days=5)
    refused = service.book(person, {"dose2": second})
    assert (refused.status_code, kind_of(refused)) == (422, "given-missing")
    other = {"vaccine": "moderna", "day": day.isoformat()}
    assert kind_of(service.book(person, {"dose2": second, "given": other})) == "two-vaccines"
    booked = service.book(person, {"dose2": second, "given": {"vaccine": "pfizer", "day": day.isoformat()}})
    assert booked.status_code == 201
    assert [a["dose"] for a in booked.json()["appointments"]] == [2]
    wait_for_state(service, booked.json())
    # What was declared stays with the course: it is asked again when the dose moves.
    later = {"session": service.campaign.session(AMPLE, 32), "slot": 6}
    there = moved(service, booked, {"dose2": later})
    assert there.status_code == 200
    wait_for_state(service, there.json())


def test_a_course_is_changed_as_often_as_the_campaign_allows(service: Service) -> None:
    booked = service.book(service.register(), service.campaign.wishes(AMPLE, 0, days=(3, 30)))
    session = service.campaign.session(AMPLE, 30)
    for number in range(8):
        answer = moved(service, booked, {"dose2": {"session": session, "slot": 1 + number % 2}})
        assert answer.status_code == 200
    refused = moved(service, booked, {"dose2": {"session": session, "slot": 5}})
    assert (refused.status_code, kind_of(refused)) == (422, "changes-used")
    assert service.write("DELETE", booked.headers["location"]).status_code == 200


def test_every_instant_carries_its_offset(service: Service) -> None:
    """Also of a hold, of a refusal's alternatives, of plans, and in La Réunion."""
    wishes = service.campaign.wishes(FAR, 7)
    held = service.book(service.register(), {**wishes, "hold": True})
    near = {"lat": -20.9, "lon": 55.4}
    answers = [
        held.json(),
        service.write("POST", f"{held.headers['location']}/confirmation").json(),
        service.write("POST", "/v1/plans", {"people": [{"person": service.register()}], "near": near}).json(),
        service.http.get("/v1/availability", params={"postcode": "75011"}).json(),
        service.http.get("/v1/availability", params=near).json(),
    ]
    for answer in answers:
        found = list(instants(answer))
        assert found
        assert all(instant.tzinfo is not None for instant in found)
    assert {a["starts_at"][-6:] for a in answers[0]["appointments"]} == {"+04:00"}
    assert answers[2]["plans"]
    assert {plan["dose1"]["starts_at"][-6:] for party in answers[2]["plans"] for plan in party} == {"+04:00"}


def test_a_move_to_another_location_frees_the_old_seats(service: Service) -> None:
    wishes = service.campaign.wishes(SMALL, 5)
    booked = service.book(service.register(), wishes)
    gone = moved(service, booked, service.campaign.wishes(FAR, 5))
    assert gone.status_code == 200
    assert [a["location"] for a in gone.json()["appointments"]] == [FAR, FAR]
    wait_for_state(service, gone.json())
    next_one = service.book(service.register(), wishes)
    assert next_one.status_code == 201
    service.write("DELETE", next_one.headers["location"])


def _offset(service: Service, zone: str, day: int) -> str:
    on = datetime.combine(service.campaign.today + timedelta(days=day), datetime.min.time(), ZoneInfo(zone))
    return on.replace(hour=9).isoformat()[-6:]
