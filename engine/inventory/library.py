"""Assembles ``scripts/*.lua`` into one Redis Function library and loads it.

``python -m engine.inventory.library`` prints the assembled source, for a linter or a reader.
"""

import sys
from functools import cache
from pathlib import Path
from typing import Any

SCRIPTS = Path(__file__).parent / "scripts"
# layout first, the operations in the order in which they use each other, the entry point last.
PARTS = (
    *("layout", "claim", "unclaim", "settle", "free", "take", "book"),
    *("resolve", "cancel", "open", "read", "mark", "step"),
)


@cache
def source() -> str:
    """The library's Lua source."""
    return "\n".join((SCRIPTS / f"{part}.lua").read_text("utf-8") for part in PARTS)


async def load(client: Any) -> None:
    """Load the library into the server, replacing an older one. Idempotent."""
    await client.function_load(source(), replace=True)


if __name__ == "__main__":
    sys.stdout.write(source())
