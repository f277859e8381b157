"""How long the stateful machines run."""

import os

import pytest


@pytest.fixture
def stateful_examples() -> int:
    """Histories per machine; ``DOSEBOOK_STATEFUL_EXAMPLES`` sets another number for a long run."""
    return int(os.environ.get("DOSEBOOK_STATEFUL_EXAMPLES", "100"))
