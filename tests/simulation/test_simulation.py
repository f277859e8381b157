"""A short run of `./dosebook simulate`, and proof that it would see a bug."""

from collections.abc import Callable
from typing import Any

import pytest

from engine.inventory import codec
from tests.simulation.campaign import play
from tests.simulation.history import History
from tests.simulation.model import Draft, PartitionModel
from tests.simulation.replay import Replayer

HISTORIES = 500


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


def forget_joins(patch: pytest.MonkeyPatch) -> None:
    """A claim that is joined looks like one that is not."""
    patch.setattr(PartitionModel, "_join", lambda *_: None)


def forget_parts(patch: pytest.MonkeyPatch) -> None:
    """A part that was given back leaves no trace."""
    original = PartitionModel._quit

    def forgetful(model: PartitionModel, body: bytes) -> bytes:
        answer = original(model, body)
        if answer == b"+":
            del model.parts[codec.part_id(body)]
        return answer

    patch.setattr(PartitionModel, "_quit", forgetful)


def forget_revisions(patch: pytest.MonkeyPatch) -> None:
    """To resolve a change leaves the course's revision as it was."""
    original = PartitionModel._resolve

    def forgetful(model: PartitionModel, body: bytes) -> bytes:
        *course, _ = codec.RESOLVE.unpack(body)
        return original(model, codec.RESOLVE.pack(*course, 0))

    patch.setattr(PartitionModel, "_resolve", forgetful)


def play_until_broken(histories: int) -> None:
    for seed in range(histories):
        History.of_seed(seed).run()


@pytest.mark.parametrize("forget", [forget_joins, forget_parts, forget_revisions])
def test_without_a_protection_a_rule_is_broken(
    forget: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The protocol needs what it remembers for the sake of late copies."""
    forget(monkeypatch)
    with pytest.raises(AssertionError):
        play_until_broken(20_000)


def test_a_difference_between_model_and_scripts_is_seen(
    redis_client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Sell the highest free seat, where the scripts sell the lowest.
    monkeypatch.setattr(Draft, "order", staticmethod(lambda width: reversed(range(8 * width))))
    replayer = Replayer(redis_client)
    assert any(play(seed, replayer)[1] for seed in range(50))
