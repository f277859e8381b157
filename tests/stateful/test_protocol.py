"""Processes book, hold, move, cancel, die between any two steps; copies arrive late.

The schedule is hypothesis's; use cases and their checks are those of ``tests/simulation/history.py``. Each
call is executed by real scripts: every answer is held against the model and judged by ``tests/auditor.py``,
and after every step all that is in Redis is compared: guards, courses, parts, holds, seats, outboxes.

``python -m tests.stateful --runs 2000 --steps 50 --masters 3`` runs longer.
"""

import random
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from engine.booking.steps import Call
from engine.inventory import library
from tests.simulation.history import ACTIONS, History
from tests.simulation.replay import beginning, clock, end, step

STEPS = 50


class LiveHistory(History):
    """A history whose calls are executed by Redis as well."""

    def __init__(self, redis: Any, partitions: int) -> None:
        super().__init__(random.Random(0), partitions)
        self._redis = redis
        redis.flushall()
        for command, wanted in list(beginning(self))[1:]:
            assert redis.execute_command(*command) == wanted

    def call(self, call: Call) -> bytes:
        """Execute an operation in both, and have it judged."""
        answer = super().call(call)
        now_ms = self.partitions[call.partition].now_ms
        pipeline = self._redis.pipeline(transaction=False)
        pipeline.execute_command(*clock(self, call.partition, now_ms)[0])
        pipeline.execute_command(*step(self, call.partition, [call.record]))
        reply = pipeline.execute()[1]
        assert [reply[0], *reply[2:]] == [now_ms, answer], f"the model says {answer!r}"
        return answer

    def compare(self) -> None:
        """All that is in Redis is what the models have."""
        planned = list(end(self))
        pipeline = self._redis.pipeline(transaction=False)
        for command, _ in planned:
            pipeline.execute_command(*command)
        for (command, wanted), found in zip(planned, pipeline.execute(), strict=True):
            assert found == wanted, command


class Protocol(RuleBasedStateMachine):
    """The machine; ``redis`` is set by the test that runs it."""

    redis: ClassVar[Any]
    history: LiveHistory | None = None

    @initialize(partitions=st.sampled_from((1, 2, 4)), seed=st.integers(0, 2**24))
    def open_the_country(self, partitions: int, seed: int) -> None:
        self.history = LiveHistory(self.redis, partitions)
        self.history.open()
        self.history.chance = random.Random(seed)
        self.actions = self.history.focus()

    @rule(action=st.integers(0, len(ACTIONS) - 1), seed=st.integers(0, 2**24))
    def act(self, action: int, seed: int) -> None:
        assert self.history is not None
        self.history.chance = random.Random(seed)
        self.history.act(self.actions[action % len(self.actions)])

    @invariant()
    def redis_is_what_the_rules_say(self) -> None:
        if self.history is not None:
            self.history.agrees_with_the_auditor()
            self.history.compare()

    def teardown(self) -> None:
        if self.history is not None:
            self.history.quiet_end()
            self.history.compare()


def run(redis: Any, runs: int, steps: int) -> None:
    """Run the machine so often, with so many steps each."""
    redis.function_load(library.source(), replace=True)
    machine = type("Machine", (Protocol,), {"redis": redis})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=runs,
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=(Phase.explicit, Phase.generate, Phase.shrink),
            print_blob=True,
        ),
    )


@pytest.mark.parametrize("masters", [1, 3], ids=["one-server", "three-masters"])
def test_no_history_breaks_a_rule(redis_client: Any, stateful_examples: int) -> None:
    run(redis_client, stateful_examples, STEPS)
