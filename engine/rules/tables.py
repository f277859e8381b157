"""Reads the CSV tables of a campaign row by row, each value checked as it is taken.

Invariant: a value that leaves this module has its type and lies in its bounds. The first bad one raises
``BadRowError``, which names the file, the line, the column and the reason; nothing is skipped or guessed.
"""

import csv
from collections.abc import Collection, Iterator
from datetime import date
from pathlib import Path


class BadRowError(ValueError):
    """A table holds a value that cannot be read: the file is to be mended, nothing of it was used."""

    def __init__(self, source: str, line: int, column: str, reason: str) -> None:
        super().__init__(f"{source}, line {line}, column {column}: {reason}")
        self.source = source
        self.line = line
        self.column = column
        self.reason = reason


class Row:
    """One line of a table; its methods return a column's value or raise ``BadRowError``."""

    __slots__ = ("_cells", "_line", "_source")

    def __init__(self, source: str, line: int, cells: dict[str, str]) -> None:
        self._source = source
        self._line = line
        self._cells = cells

    def bad(self, column: str, reason: str) -> BadRowError:
        """The error to raise for this row's column."""
        return BadRowError(self._source, self._line, column, reason)

    def text(self, column: str) -> str:
        """The text, which may be empty."""
        return self._cells[column].strip()

    def filled(self, column: str) -> str:
        """The text, which may not be empty."""
        value = self.text(column)
        if not value:
            raise self.bad(column, "is empty")
        return value

    def integer(self, column: str, low: int, high: int) -> int:
        """A whole number, ``low <= value <= high``."""
        text = self.filled(column)
        try:
            value = int(text)
        except ValueError:
            raise self.bad(column, f"{text!r} is not a whole number") from None
        if not low <= value <= high:
            raise self.bad(column, f"{value} is not between {low} and {high}")
        return value

    def optional_integer(self, column: str, low: int, high: int) -> int | None:
        """As ``integer``; ``None`` where the column is empty."""
        return self.integer(column, low, high) if self.text(column) else None

    def number(self, column: str, low: float, high: float) -> float:
        """A finite decimal number, ``low <= value <= high``."""
        text = self.filled(column)
        try:
            value = float(text)
        except ValueError:
            raise self.bad(column, f"{text!r} is not a number") from None
        if not low <= value <= high:
            raise self.bad(column, f"{text} is not between {low} and {high}")
        return value

    def day(self, column: str) -> date:
        """A date, ``YYYY-MM-DD``."""
        text = self.filled(column)
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise self.bad(column, f"{text!r} is not a date (YYYY-MM-DD)") from None

    def flag(self, column: str) -> bool:
        """``t`` or ``f``."""
        text = self.filled(column)
        if text not in ("t", "f"):
            raise self.bad(column, f"{text!r} is neither 't' nor 'f'")
        return text == "t"


def read_rows(path: Path, columns: Collection[str]) -> Iterator[Row]:
    """The rows of the UTF-8, comma-separated file, which has a header line with at least ``columns``."""
    with path.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines, strict=True)
        header = reader.fieldnames or ()
        for column in columns:
            if column not in header:
                raise BadRowError(path.name, 1, column, "is not in the header line")
        for cells in reader:
            if None in cells or None in cells.values():
                reason = f"the line has not the header's {len(header)} columns"
                raise BadRowError(path.name, reader.line_num, header[-1], reason)
            yield Row(path.name, reader.line_num, cells)
