"""A short run of `./dosebook simulate`, and proof that it would see a bug."""

from typing import Any

import pytest

from tests.simulation.campaign import play
from tests.simulation.history import History
from tests.simulation.model import Draft, GuardState, PartitionModel
from tests.simulation.replay import Replayer

HISTORIES = 2_000


def test_no_history_breaks_a_rule_and_every_replay_agrees(redis_client: Any) -> None:
    replayer = Replayer(redis_client)
    findings = [finding for seed in range(HISTORIES) if (finding := play(seed, replayer)[1])]
    assert findings == []


def test_the_same_seed_plays_the_same_trace() -> None:
    first, second = History.of_seed(5), History.of_seed(5)
    first.run()
    second.run()
    assert first.digest == second.digest
    assert first.trace == second.trace


def test_a_forgotten_join_lets_a_person_book_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the mark on a joined claim (PROTOCOL.md) the simulation must see a second live course."""

    def forget(model: PartitionModel, guard: GuardState, op: bytes) -> None:
        """Leave the guard as it is."""

    monkeypatch.setattr(PartitionModel, "_join", forget)
    with pytest.raises(AssertionError, match="second live course"):
        play_until_broken(20_000)


def play_until_broken(histories: int) -> None:
    for seed in range(histories):
        History.of_seed(seed).run()


def test_a_difference_between_model_and_scripts_is_seen(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sell the highest free seat, where the scripts sell the lowest.
    monkeypatch.setattr(Draft, "order", staticmethod(lambda width: reversed(range(8 * width))))
    replayer = Replayer(redis_client)
    assert any(play(seed, replayer)[1] for seed in range(50))
