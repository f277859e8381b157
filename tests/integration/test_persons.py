import asyncio

from engine.domain.course import Op
from engine.storage.persons import Answer, register
from tests.deployment import Deployment

KEY, DIGEST = b"op-key--", b"digest--"
PERSON = bytes(range(16))


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
