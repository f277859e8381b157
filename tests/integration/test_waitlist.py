"""The waitlist on a real Postgres, case by case."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from engine import limits
from engine.domain.course import Kind, Wish
from engine.errors import OutcomeUnknown
from engine.storage.migrate import migrate
from engine.storage.pool import connect_alone, connect_pool
from engine.storage.waitlist import Area
from engine.waitlist.acceptance import Acceptance
from engine.waitlist.entries import Bar, Joined, NotJoined, Place
from engine.waitlist.needs import Freed
from engine.waitlist.offers import Accepted, NotAccepted, UnknownOffer, offer_key
from engine.waitlist.states import EntryState, LotState, OfferState, Purpose
from engine.waitlist.worker import Worker
from tests.deployment import until
from tests.waiting import DAY, FIRST, ONE, PRIMARY, TWO, Country, Died, asked
from tests.world import person_key

SOON_S = 60.0


@pytest.fixture
async def country(database_url: str) -> AsyncIterator[Country]:
    """Migrated, empty, all first doses booked by people from 100 on."""
    connection = await connect_alone(database_url)
    await migrate(connection)
    await connection.close()
    pool = await connect_pool(database_url)
    country = Country(pool)
    country.fill()
    await country.rounds.begin()
    yield country
    await pool.close()


async def free(country: Country, person: int) -> Freed:
    """Somebody cancels their only dose, and the worker hears of it."""
    (freed,) = country.desk.cancel(person)
    country.wakes.add(freed.session, freed.slot)
    await country.settle()
    return freed


async def die_holding(country: Country, freed: Freed) -> None:
    """The worker dies between the hold of a lot and telling of it; another takes over."""

    async def dies(*_: Any) -> None:
        raise Died

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(country.ledger, "open", dies)
        with pytest.raises(Died):
            await country.rounds.consider(freed)
    country.restart()
    assert country.desk.holds


async def test_a_freed_seat_is_offered_in_the_order_of_joining_and_taken_once(country: Country) -> None:
    first, second = await country.join(1), await country.join(2)
    await free(country, 100)
    offers = await country.offers_in("open")
    assert [entry for entry, _ in offers] == [first, second]
    taken = await country.offers.accept(offers[1][1], "key")
    assert isinstance(taken, Accepted)
    assert [course.id.person for course in taken.courses] == [person_key(2)]
    assert await country.offers_in("gone") == [offers[0]]
    assert await country.entry_state(first) == EntryState.WAITING
    assert await country.offers.accept(offers[0][1], "key") == NotAccepted(OfferState.GONE)
    assert await country.entry_state(second) == EntryState.BOOKED
    assert len(country.desk.taken_by_offer) == 1


async def test_all_who_accept_at_once_get_one_seat(country: Country) -> None:
    for person in range(10):
        await country.join(person)
    await free(country, 100)
    offers = [offer for _, offer in await country.offers_in("open")]
    assert len(offers) == 10
    answers = await asyncio.gather(*(country.offers.accept(offer, "key") for offer in offers * 2))
    assert len({a.courses for a in answers if isinstance(a, Accepted)}) == 1
    assert len(country.desk.taken_by_offer) == 1
    assert await country.rows("select state, count(*) from waitlist_offer group by 1 order by 1") == [
        ("accepted", 1),
        ("gone", 9),
    ]


async def test_never_to_the_one_who_freed_it(country: Country) -> None:
    """A known fault of waiting lists: who cancels, and waits for a better time, gets their own seat back."""
    (freed,) = country.desk.cancel(100)
    canceller, other = await country.join(100), await country.join(1)
    country.wakes.add(freed.session, freed.slot)
    await country.settle()
    assert [entry for entry, _ in await country.offers_in("open")] == [other]
    assert await country.entry_state(canceller) == EntryState.WAITING
    await free(country, 101)
    country.clock.pass_(limits.OFFER_S_MAX + 1)
    await country.settle()
    await free(country, 102)
    told = await country.rows(
        "select entry, slot from waitlist_offer where opened_at is not null order by id"
    )
    assert (canceller, 1) in told
    assert (canceller, 0) not in told


async def test_never_a_seat_of_the_plan_that_somebody_freed_elsewhere(country: Country) -> None:
    """The second dose of the plan may be what the canceller gave back, not the slot that woke us."""
    country.desk.cancel(100)
    assert country.desk.book(100, Wish(1, FIRST, 0), Wish(2, 2, 0))
    country.desk.cancel(100)
    assert country.desk.book(50, Wish(1, FIRST, 0))
    await country.join(100, shape=TWO)
    await free(country, 102)
    assert await country.offers_in("open") == []


async def test_never_after_the_slot_began_and_not_shortly_before(country: Country) -> None:
    await country.join(1)
    begins = country.sessions[FIRST].slot_starts_at(0)
    least = limits.OFFER_BEFORE_SLOT_S + limits.OFFER_S_MIN
    country.clock.now = begins - timedelta(seconds=least - 1)
    freed = await free(country, 100)
    assert await country.offers_in("open") == []
    country.clock.now = begins + timedelta(seconds=1)
    assert not await country.rounds.consider(freed)
    country.clock.now = begins - timedelta(seconds=least)
    assert await country.rounds.consider(freed)
    deadline = await country.pool.fetchval("select deadline from waitlist_lot")
    assert deadline == begins - timedelta(seconds=limits.OFFER_BEFORE_SLOT_S)


async def test_a_lot_found_opening_too_late_is_given_back(country: Country) -> None:
    entry = await country.join(1)
    (freed,) = country.desk.cancel(100)
    await die_holding(country, freed)
    country.clock.now = country.sessions[FIRST].slot_starts_at(0) + timedelta(seconds=1)
    await country.settle()
    assert await country.rows("select distinct state from waitlist_offer") == [("withdrawn",)]
    assert await country.rows("select distinct state from waitlist_lot") == [("closed",)]
    assert not country.desk.holds
    assert await country.entry_state(entry) == EntryState.WAITING


async def test_never_where_setting_the_seats_aside_took_too_long(
    country: Country, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = await country.join(1)
    (freed,) = country.desk.cancel(100)
    set_aside = country.desk.set_aside

    async def slow(*args: Any) -> Any:
        answer = await set_aside(*args)
        country.clock.now = country.sessions[FIRST].slot_starts_at(0) - timedelta(seconds=1)
        return answer

    monkeypatch.setattr(country.desk, "set_aside", slow)
    assert not await country.rounds.consider(freed)
    assert await country.rows("select state, opened_at from waitlist_offer") == [("withdrawn", None)]
    assert await country.entry_state(entry) == EntryState.WAITING
    assert not country.desk.holds


async def test_never_to_somebody_who_was_booked_while_the_worker_was_away(country: Country) -> None:
    booked, other = await country.join(1), await country.join(2)
    (freed,) = country.desk.cancel(100)
    await die_holding(country, freed)
    assert country.desk.book(1, Wish(2, 2, 0))
    await country.settle()
    assert [entry for entry, _ in await country.offers_in("open")] == [other]
    assert await country.entry_state(booked) == EntryState.BOOKED


async def test_never_to_a_family_of_whom_one_was_booked_while_the_worker_was_away(country: Country) -> None:
    family, other = await country.join(3, 1), await country.join(4, 5)
    (freed,) = country.desk.cancel(100)
    country.desk.cancel(101)
    await die_holding(country, freed)
    assert country.desk.book(1, Wish(2, 2, 0))
    await country.settle()
    assert [entry for entry, _ in await country.offers_in("open")] == [other]
    assert await country.entry_state(family) == EntryState.BOOKED


async def test_who_is_booked_already_is_closed_and_the_next_is_offered(country: Country) -> None:
    booked, other = await country.join(1), await country.join(2)
    country.desk.book(1, Wish(2, 2, 0))
    await free(country, 100)
    assert [entry for entry, _ in await country.offers_in("open")] == [other]
    assert await country.entry_state(booked) == EntryState.BOOKED


async def test_who_has_booked_since_the_offer_cannot_take_it_and_the_others_can(country: Country) -> None:
    booked, other = await country.join(1), await country.join(2)
    await free(country, 100)
    country.desk.book(1, Wish(2, 2, 0))
    offers = dict(await country.offers_in("open"))
    assert await country.offers.accept(offers[booked], "key") == NotAccepted(OfferState.WITHDRAWN)
    assert await country.entry_state(booked) == EntryState.BOOKED
    assert isinstance(await country.offers.accept(offers[other], "key"), Accepted)


@pytest.mark.parametrize("answer", ["refused", "expired"])
async def test_it_goes_on_to_the_next_and_nobody_is_asked_twice(
    country: Country, answer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OFFERS_PARALLEL_MAX", 1)
    entries = [await country.join(person) for person in range(3)]
    freed = await free(country, 100)
    for entry in entries:
        ((told, offer),) = await country.offers_in("open")
        assert told == entry
        if answer == "refused":
            assert await country.offers.refuse(offer) == OfferState.REFUSED
            assert await country.offers.refuse(offer) == OfferState.REFUSED
        else:
            country.clock.pass_(limits.OFFER_S_MAX + 1)
        await country.settle()
        country.wakes.add(freed.session, freed.slot)
        await country.settle()
    assert [state for (state,) in await country.rows("select state from waitlist_offer")] == [answer] * 3
    assert country.desk.book(9, Wish(1, freed.session, freed.slot)), "the line has ended: it is everybody's"
    assert {await country.entry_state(entry) for entry in entries} == {EntryState.WAITING}


async def test_parallel_offers_follow_the_measured_acceptance(
    country: Country, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "WAITLIST_PER_PERSON_MAX", 1)
    for person in range(40):
        await country.join(person)
    await free(country, 100)
    assert len(await country.offers_in("open")) == 18
    await country.pool.execute("update waitlist_standing set taken = 25, decided = 100")
    country.restart()
    await free(country, 102)
    assert len(await country.offers_in("open")) == 18 + 4
    await country.pool.execute("update waitlist_standing set taken = 0, decided = 100")
    await free(country, 104)
    assert len(await country.offers_in("open")) == 18 + 4 + 18
    await country.pool.execute("update waitlist_standing set taken = 100, decided = 100")
    for entry in await country.offers_in("open"):
        await country.offers.refuse(entry[1])
    await country.settle()
    await country.pool.execute("update waitlist_standing set taken = 100, decided = 100")
    await free(country, 101)
    assert len(await country.offers_in("open")) == 2, "one for each of the two seats that are free there now"


async def test_acceptance_is_measured_once_for_each_offer_and_survives_a_restart(country: Country) -> None:
    for person in range(4):
        await country.join(person)
    await free(country, 100)
    offers = [offer for _, offer in await country.offers_in("open")]
    await country.offers.refuse(offers[0])
    country.clock.pass_(limits.OFFER_S_MAX / 2)
    for _ in range(3):
        await country.offers.accept(offers[1], "key")
    country.restart()
    measured = await country.ledger.acceptance()
    expected = Acceptance().after(0, 1.0).after(1, 2 * 0.5)
    assert (measured.taken, measured.decided) == pytest.approx((expected.taken, expected.decided))


async def test_a_slot_with_two_free_seats_is_offered_twice(
    country: Country, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "OFFERS_PARALLEL_MAX", 1)
    entries = [await country.join(person) for person in range(3)]
    country.desk.cancel(100)
    await free(country, 101)
    assert [entry for entry, _ in await country.offers_in("open")] == entries[:2]


async def test_a_family_gets_all_or_nothing(country: Country) -> None:
    family, single = await country.join(1, 2, 3), await country.join(4)
    await free(country, 100)
    assert [entry for entry, _ in await country.offers_in("open")] == [single], "one seat is none for three"
    await country.offers.refuse((await country.offers_in("open"))[0][1])
    await country.settle()
    country.desk.cancel(102)
    country.desk.cancel(103)
    country.wakes.add(FIRST, 0)
    await country.settle()
    ((entry, offer),) = await country.offers_in("open")
    assert entry == family
    taken = await country.offers.accept(offer, "key")
    assert isinstance(taken, Accepted)
    assert [course.id.person for course in taken.courses] == [person_key(n) for n in (1, 2, 3)]


async def test_nobody_is_passed_over_by_who_stands_behind_and_wants_the_same(country: Country) -> None:
    """Two, one, two are in line and two seats are free: the second two must not be asked before the one."""
    entries = [await country.join(1, 2), await country.join(3), await country.join(4, 5)]
    country.desk.cancel(100)
    await free(country, 101)
    assert [entry for entry, _ in await country.offers_in("open")] == entries[:1]


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ({}, True),
        ({"vaccines": ("moderna",)}, False),
        ({"vaccines": ("moderna", "pfizer")}, True),
        ({"last_day": DAY - timedelta(days=1)}, False),
        ({"weekdays": 1 << DAY.weekday()}, True),
        ({"weekdays": 127 - (1 << DAY.weekday())}, False),
        ({"area": Area(48.8, 2.5, 14.0)}, False),
        ({"area": Area(48.8, 2.5, 15.0)}, True),
        ({"shape": TWO}, True),
    ],
)
async def test_who_fits(country: Country, terms: dict[str, Any], fits: bool) -> None:
    await country.join(1, **terms)
    await free(country, 100)
    assert bool(await country.offers_in("open")) == fits


async def test_somebody_with_two_entries_is_offered_a_slot_once(country: Country) -> None:
    first = await country.join(1, key="a")
    await country.join(1, key="b", area=Area(48.81, 2.3, 5.0))
    freed = await free(country, 100)
    assert [entry for entry, _ in await country.offers_in("open")] == [first]
    assert not await country.rounds.consider(freed)
    ((_, offer),) = await country.offers_in("open")
    assert isinstance(await country.offers.accept(offer, "key"), Accepted)
    assert await country.rows("select distinct state from waitlist_entry") == [("booked",)]


async def test_leaving_withdraws_the_offer(country: Country) -> None:
    entry = await country.join(1)
    freed = await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    assert await country.entries.leave(entry) == EntryState.LEFT
    assert await country.entries.leave(entry) == EntryState.LEFT
    assert await country.offers.accept(offer, "key") == NotAccepted(OfferState.WITHDRAWN)
    await country.settle()
    assert country.desk.book(9, Wish(1, freed.session, freed.slot))
    assert await country.rows("select count(*) from waitlist_cell") == [(0,)]


async def test_who_leaves_when_they_were_chosen_is_offered_nothing(
    country: Country, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry, other = await country.join(1), await country.join(2)
    begin = country.ledger.begin

    async def leave_first(*args: Any) -> int | None:
        await country.entries.leave(entry)
        return await begin(*args)

    monkeypatch.setattr(country.ledger, "begin", leave_first)
    await free(country, 100)
    assert [told for told, _ in await country.offers_in("open")] == [other]
    assert await country.entry_state(entry) == EntryState.LEFT


async def test_leaving_waits_for_an_acceptance_under_way(country: Country) -> None:
    entry = await country.join(1)
    await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    await country.ledger.accept(offer, "key", country.clock())
    assert await country.entries.leave(entry) == EntryState.OFFERED
    assert not await country.entries.forget(person_key(1))
    country.clock.pass_(limits.ACCEPTANCE_S_MAX + 1)
    await country.settle()
    assert await country.entries.leave(entry) == EntryState.BOOKED


async def test_an_acceptance_in_time_is_concluded_after_the_deadline(country: Country) -> None:
    entry = await country.join(1)
    await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    country.clock.pass_(limits.OFFER_S_MAX)
    await country.ledger.accept(offer, "key", country.clock())
    country.clock.pass_(limits.OFFER_GRACE_S / 2)
    await country.settle()
    assert await country.entry_state(entry) == EntryState.BOOKED


async def test_a_booking_whose_answer_was_lost_is_recorded_under_its_first_key(country: Country) -> None:
    entry = await country.join(1)
    await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    await country.ledger.accept(offer, "first", country.clock())
    country.fuse.set(mute_at=4)
    with pytest.raises(OutcomeUnknown):
        await country.offers.accept(offer, "second")
    assert country.desk.taken_by_offer
    country.restart()
    assert isinstance(await country.offers.accept(offer, "third"), Accepted)
    assert await country.entry_state(entry) == EntryState.BOOKED


async def test_a_lot_does_not_run_out_under_an_acceptance(country: Country) -> None:
    await country.join(1)
    await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    country.clock.pass_(limits.OFFER_S_MAX)
    await country.ledger.accept(offer, "key", country.clock())
    country.clock.pass_(1.0)
    await country.rounds.drive()
    assert await country.rows("select state from waitlist_lot") == [(LotState.OPEN,)]
    assert isinstance(await country.offers.accept(offer, "key"), Accepted)


async def test_an_acceptance_after_the_deadline_is_refused_whoever_is_asleep(country: Country) -> None:
    await country.join(1)
    await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    country.clock.pass_(limits.OFFER_S_MAX + 1)
    assert await country.offers.accept(offer, "key") == NotAccepted(OfferState.EXPIRED)
    assert await country.offers.accept(999, "key") == UnknownOffer()


async def test_an_alert_is_told_once_a_day_and_holds_nothing(country: Country) -> None:
    alert = await country.join(1, purpose=Purpose.ALERT)
    freed = await free(country, 100)
    assert await country.rows("select entry, location, session from alert_told") == [(alert, 1, FIRST)]
    assert await country.rows("select count(*) from waitlist_lot") == [(0,)]
    await free(country, 102)
    assert await country.rows("select count(*) from alert_told") == [(1,)]
    assert country.desk.book(9, Wish(1, freed.session, freed.slot))
    assert await country.entries.place(alert) is None


async def test_an_alert_is_told_only_where_nobody_waits(country: Country) -> None:
    await country.join(1, purpose=Purpose.ALERT)
    await country.join(2)
    await free(country, 100)
    assert await country.rows("select count(*) from alert_told") == [(0,)]


async def test_joining_again_with_the_same_key_is_joining_once(country: Country) -> None:
    await country.register(1)
    answers = await asyncio.gather(*(country.entries.join(asked(1), "key") for _ in range(8)))
    assert len(set(answers)) == 1
    assert await country.rows("select count(*) from waitlist_entry") == [(1,)]
    assert await country.entries.join(asked(1, shape=TWO), "key") == NotJoined(Bar.KEY_REUSED)
    country.desk.book(1, Wish(2, 2, 0))
    assert await country.entries.join(asked(1), "key") == answers[0]


async def test_who_may_not_join(country: Country, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bar(*people: int, key: str = "key", **terms: Any) -> Bar | None:
        answer = await country.entries.join(asked(*people, **terms), key)
        return answer.bar if isinstance(answer, NotJoined) else None

    assert await bar(1) == Bar.UNKNOWN_PERSON
    await country.register(1, 2, 100)
    assert await bar(100) == Bar.ALREADY_BOOKED
    assert await bar(100, purpose=Purpose.ALERT) is None
    assert await bar(1, 1) == Bar.PEOPLE
    assert await bar() == Bar.PEOPLE
    assert await bar(1, area=Area(48.8, 2.3, 101.0)) == Bar.AREA
    assert await bar(1, area=Area(float("nan"), 2.3, 10.0)) == Bar.AREA
    assert await bar(1, last_day=DAY - timedelta(days=9)) == Bar.DAYS
    answers = [await bar(1, key=f"{n}") for n in range(limits.WAITLIST_PER_PERSON_MAX + 1)]
    assert answers == [None] * limits.WAITLIST_PER_PERSON_MAX + [Bar.TOO_MANY_ENTRIES]
    country.restart()
    await country.rounds.begin()
    monkeypatch.setattr(limits, "WAITLIST_ENTRIES_MAX", 1)
    assert await bar(2) == Bar.WAITLIST_FULL


async def test_people_in_a_rush_cannot_join_more_often_than_they_may(country: Country) -> None:
    await country.register(1, 2)
    orders = [(1, 2), (2, 1)] * 6
    answers = await asyncio.gather(
        *(country.entries.join(asked(*people), f"{n}") for n, people in enumerate(orders))
    )
    assert sum(isinstance(answer, Joined) for answer in answers) == limits.WAITLIST_PER_PERSON_MAX


async def test_the_place_counts_those_before_who_want_places_here(country: Country) -> None:
    far = Area(43.3, 5.4, 10.0)
    entries = [
        await country.join(1),
        await country.join(2, area=far),
        await country.join(3, area=Area(49.2, 2.3, 60.0)),
        await country.join(4),
    ]
    assert [await country.entries.place(entry) for entry in entries] == [
        Place(0, or_more=False),
        Place(0, or_more=False),
        Place(0, or_more=False),
        Place(2, or_more=False),
    ]
    await country.entries.leave(entries[0])
    assert await country.entries.place(entries[3]) == Place(1, or_more=False)
    assert await country.entries.place(entries[0]) is None


async def test_entries_end_with_their_days_and_with_a_booking(country: Country) -> None:
    over, booked = await country.join(1, last_day=DAY - timedelta(days=1)), await country.join(2)
    insert = "insert into course values ($1, $2, 1, 1, 'b', now(), null, '')"
    await country.pool.execute(insert, person_key(2).hex(), PRIMARY)
    await country.rounds.tick()
    assert await country.entry_state(booked) == EntryState.BOOKED
    country.clock.now = country.sessions[FIRST].starts_at + timedelta(hours=4)
    await country.rounds.tick()
    assert await country.entry_state(over) == EntryState.EXPIRED
    country.clock.pass_(86_400 * (limits.WAITLIST_KEPT_DAYS + 1))
    await country.rounds.tick()
    assert await country.rows("select count(*) from waitlist_entry") == [(0,)]


async def test_the_tick_finds_a_free_seat_of_which_nobody_has_told(country: Country) -> None:
    entry = await country.join(1)
    country.desk.cancel(104)
    await country.rounds.tick()
    assert [told for told, _ in await country.offers_in("open")] == [entry]


async def test_a_clock_that_jumps_loses_time_and_nothing_else(country: Country) -> None:
    entry = await country.join(1)
    freed = await free(country, 100)
    ((_, offer),) = await country.offers_in("open")
    country.clock.pass_(-7_200)
    await country.settle()
    assert await country.entry_state(entry) == EntryState.OFFERED
    country.clock.pass_(7_200 + limits.OFFER_S_MAX + limits.OFFER_GRACE_S + 1)
    country.desk.expire()
    country.clock.pass_(-7_200)
    assert country.desk.book(9, Wish(1, freed.session, freed.slot)), "Redis' clock ended the hold"
    assert await country.offers.accept(offer, "key") == NotAccepted(OfferState.GONE)
    await country.settle()
    assert await country.entry_state(entry) == EntryState.WAITING
    assert await country.rows("select state from waitlist_lot") == [(LotState.CLOSED,)]


async def test_seats_taken_at_the_last_moment_are_offered_to_nobody(country: Country) -> None:
    entry = await country.join(1)
    (freed,) = country.desk.cancel(100)
    plan = country.surroundings().around(FIRST, 0, PRIMARY, ONE, 1)
    country.desk.book(9, Wish(1, freed.session, freed.slot))
    assert plan is not None
    country.rounds._chooser._around = lambda *_: plan
    assert not await country.rounds.consider(freed)
    assert await country.rows("select state, opened_at from waitlist_offer") == [("withdrawn", None)]
    assert await country.entry_state(entry) == EntryState.WAITING


async def test_one_worker_at_a_time_and_the_next_goes_on(country: Country, database_url: str) -> None:
    said: tuple[list[str], list[str]] = ([], [])
    workers = [
        Worker(database_url, country.surroundings(), country.offers._sealer, country.wakes, lines.append)
        for lines in said
    ]
    running = [asyncio.create_task(worker.run()) for worker in workers]

    async def both_have_spoken() -> bool:
        return all(said)

    async def offered() -> bool:
        return bool(await country.offers_in("open"))

    await until(both_have_spoken, *running)
    owner, other = (0, 1) if said[0] == ["driving the waitlist"] else (1, 0)
    assert said[owner] == ["driving the waitlist"]
    assert said[other] == ["the waitlist has another worker: waiting for it to end"]
    workers[owner].stop()
    await running[owner]
    entry = await country.join(1)
    country.desk.cancel(100)
    await until(offered, running[other])
    assert [told for told, _ in await country.offers_in("open")] == [entry]
    assert said[other][1:] == ["driving the waitlist"]
    workers[other].stop()
    await running[other]


async def test_seats_that_are_away_are_asked_again(country: Country) -> None:
    entry = await country.join(1)
    (freed,) = country.desk.cancel(100)
    for step in range(1, 60):
        country.fuse.set(mute_at=step)
        country.wakes.add(freed.session, freed.slot)
        await country.rounds.look()
        await country.rounds.drive()
        if await country.offers_in("open"):
            break
    country.fuse.set()
    await country.settle()
    assert [told for told, _ in await country.offers_in("open")] == [entry]


async def test_an_offer_lives_where_the_seats_are(country: Country) -> None:
    keyspace = country.surroundings().keyspace
    for location in range(1, 9):
        key = offer_key(keyspace, location)
        assert len(key) == 16
        assert keyspace.of_person(key) == keyspace.of_location(location)
    assert Kind.OFFER not in (Kind.PRIMARY, Kind.BOOSTER)
