import asyncio
from typing import Any

from engine.domain.course import Op
from engine.storage import persons
from engine.storage.persons import Answer, NewRow, Registration
from tests.deployment import Deployment

KEY, DIGEST = b"op-key--", b"digest--"
PERSON = bytes(range(16))


async def register(pool: Any, op: Op, person: bytes, sealed: bytes) -> Registration:
    (answer,) = await persons.register(pool, [NewRow(op, person, sealed)])
    return answer


async def test_registered_repeated_and_key_reused(deployment: Deployment) -> None:
    op = Op(KEY, DIGEST)
    assert (await register(deployment.pool, op, PERSON, b"one")).answer is Answer.REGISTERED
    again = await register(deployment.pool, op, PERSON, b"two")
    assert (again.answer, again.person) == (Answer.REPEATED, PERSON)
    other = await register(deployment.pool, Op(KEY, b"another-"), bytes(16), b"three")
    assert (other.answer, other.person) == (Answer.KEY_REUSED, PERSON)
    assert await deployment.rows("select sealed from person") == [(b"one",)]


async def test_the_same_person_under_another_op_keeps_the_first_row(deployment: Deployment) -> None:
    await register(deployment.pool, Op(KEY, DIGEST), PERSON, b"one")
    second = await register(deployment.pool, Op(b"op-key-2", DIGEST), PERSON, b"two")
    assert second.answer is Answer.REGISTERED
    assert await deployment.rows("select sealed from person") == [(b"one",)]


async def test_many_at_once_register_once(deployment: Deployment) -> None:
    ops = [register(deployment.pool, Op(KEY, DIGEST), PERSON, b"one") for _ in range(8)]
    answers = [result.answer for result in await asyncio.gather(*ops)]
    assert answers.count(Answer.REGISTERED) == 1
    assert answers.count(Answer.REPEATED) == 7


async def test_a_batch_answers_each_of_its_rows(deployment: Deployment) -> None:
    await register(deployment.pool, Op(KEY, DIGEST), PERSON, b"one")
    rows = [NewRow(Op(b"batch%03d" % n, DIGEST), bytes([n // 2]) * 16, b"%d" % n) for n in range(100)]
    repeated, reused = (
        NewRow(Op(KEY, DIGEST), PERSON, b"two"),
        NewRow(Op(b"batch000", b"another-"), PERSON, b""),
    )
    first = await persons.register(deployment.pool, [*rows, repeated])
    assert [answer.answer for answer in first] == [Answer.REGISTERED] * 100 + [Answer.REPEATED]
    assert [answer.person for answer in first] == [row.person for row in rows] + [PERSON]
    (answer,) = await persons.register(deployment.pool, [reused])
    assert (answer.answer, answer.person) == (Answer.KEY_REUSED, rows[0].person)
    assert await deployment.rows("select count(*) from person") == [(51,)]


async def test_batches_that_overlap_in_any_order_do_not_deadlock(deployment: Deployment) -> None:
    rows = [NewRow(Op(b"key%05d" % n, DIGEST), b"%016d" % (n * 7919 % 400), b"") for n in range(400)]
    orders = [rows, rows[::-1], rows[200:] + rows[:200], rows[::2] + rows[1::2]]
    batches = await asyncio.gather(*(persons.register(deployment.pool, order) for order in orders))
    answers = [answer.answer for batch in batches for answer in batch]
    assert answers.count(Answer.REGISTERED) == 400
    assert answers.count(Answer.REPEATED) == 3 * 400
