"""Named queries of ``sql/*.sql``, one file per table: ``query("session.all")``.

A query begins at its ``-- name:`` line; comments stay in it, so that the server's log explains itself.
"""

import re
from functools import cache
from pathlib import Path

SQL = Path(__file__).parent / "sql"
NAME = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


def query(name: str) -> str:
    """The query ``table.name``. Raises ``KeyError`` for one that is not there."""
    table, _, of_table = name.partition(".")
    return _queries(table)[of_table]


@cache
def _queries(table: str) -> dict[str, str]:
    parts = NAME.split((SQL / f"{table}.sql").read_text("utf-8"))
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}
