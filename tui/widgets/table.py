"""A table with a cursor and marks, for any number of rows: only those in view are painted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from rich.text import Text
from textual.message import Message

from safedl.text import one_line
from tui.widgets.lines import Lines

T = TypeVar("T")
ROOMY = 100
"""Cells from which a table has room to spare."""


@dataclass(frozen=True)
class Column(Generic[T]):
    """A column: its heading, width in cells (0 takes what is left), and what it shows of a row.

    `least` is the width of the table from which it is shown; from `ROOMY` on it is `wide` cells wide, if that is given.
    `fit` shortens a text to so many cells where its end must not go.
    """

    heading: str
    width: int
    cell: Callable[[T], Any]
    right: bool = False
    least: int = 0
    wide: int = 0
    fit: Callable[[str, int], str] | None = None


class Table(Lines, Generic[T]):
    """Rows of any type, each with a key; cursor and marks stay with their keys when rows are replaced.

    The first line holds the headings and stays in place.
    """

    head_lines = 1

    class NearEnd(Message):
        """The cursor comes near the last row: time to read the next page."""

    def __init__(
        self,
        columns: Sequence[Column[T]],
        key: Callable[[T], str],
        *,
        marked: set[str] | None = None,
        empty: str = "nothing here",
        id: str | None = None,
    ) -> None:
        super().__init__(id=id)
        self.columns, self.key, self.empty = columns, key, empty
        self.rows: list[T] = []
        self.marked = marked
        self.sorted_by: tuple[str, bool] | None = None
        """The heading of the column that orders the rows, and whether downwards."""

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.rows)

    @property
    def current(self) -> T | None:
        """The row under the cursor."""
        return self.rows[self.cursor] if 0 <= self.cursor < len(self.rows) else None

    def set_rows(self, rows: Sequence[T]) -> None:
        """Replace the rows; the cursor stays on the row with the same key, if it is still there."""
        before = self.current
        key = None if before is None else self.key(before)
        self.rows = list(rows)
        position = self.cursor
        if position > 0:  # a cursor at the top stays there: the newest come first
            position = next((i for i, row in enumerate(self.rows) if self.key(row) == key), position)
        self.changed()
        if position != self.cursor:
            self.cursor = position
        elif self.current is not before:
            self.post_message(self.Moved(self, self.cursor))

    def watch_cursor(self) -> None:
        """Ask for more rows when the cursor comes near the end."""
        super().watch_cursor()
        if self.cursor >= self.count - 20:
            self.post_message(self.NearEnd())

    def line(self, index: int, width: int) -> Text:
        """Return a row: cursor, mark, cells."""
        row = self.rows[index]
        text = Text("›" if index == self.cursor else " ", no_wrap=True, end="")
        if self.marked is not None:
            text.append("[x]" if self.key(row) in self.marked else "[ ]")
        for column, cells in self._layout(width):
            cell = column.cell(row)
            plain = "" if cell is None else one_line(str(cell))
            part = cell.copy() if isinstance(cell, Text) else Text(column.fit(plain, cells) if column.fit else plain)
            part.truncate(cells, overflow="ellipsis")
            part.align("right" if column.right else "left", cells)
            text.append(" ").append_text(part)
        return text

    def head(self, width: int) -> Text:
        """Return the headings; an arrow shows the order."""
        text = Text(" " + ("   " if self.marked is not None else ""), style="bold", end="")
        for column, cells in self._layout(width):
            heading = column.heading
            if self.sorted_by and self.sorted_by[0] == heading:
                heading += "↓" if self.sorted_by[1] else "↑"
            part = Text(heading)
            part.truncate(cells, overflow="crop")
            part.align("right" if column.right else "left", cells)
            text.append(" ").append_text(part)
        return text

    def _layout(self, width: int) -> list[tuple[Column[T], int]]:
        columns = [c for c in self.columns if width >= c.least]
        cells = {id(c): c.wide if c.wide and width >= ROOMY else c.width for c in columns}
        fixed = sum(cells.values()) + len(columns) + 1 + (3 if self.marked is not None else 0)
        flexible = [c for c in columns if not c.width]
        share, rest = divmod(max(0, width - fixed), max(1, len(flexible)))
        cells |= {id(c): max(4, share + (i < rest)) for i, c in enumerate(flexible)}
        return [(c, cells[id(c)]) for c in columns]
