"""How long the stateful machines run."""

import os

import pytest

# A step on three masters takes about twice as long, and the scripts are the same.
FEWER_ON_A_CLUSTER = 4


@pytest.fixture
def stateful_examples(masters: int) -> int:
    """Histories per machine; ``DOSEBOOK_STATEFUL_EXAMPLES`` sets another number for a long run."""
    examples = int(os.environ.get("DOSEBOOK_STATEFUL_EXAMPLES", "100"))
    return examples if masters == 1 else max(1, examples // FEWER_ON_A_CLUSTER)
