"""Cells in rows and columns, with a cursor in both directions: for comparisons and for what a query returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive

from tui.widgets.lines import Lines

GAP = 2
"""Cells between columns."""


class Grid(Lines):
    """Rows of cells. The headings stay in place, so may the first column; the column under the cursor is in view."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("h,left", "column(-1)", "Previous column", show=False),
        Binding("l,right", "column(1)", "Next column", show=False),
    ]
    head_lines = 1
    column: reactive[int] = reactive(0)

    class ColumnMoved(Message):
        """The cursor stands in another column."""

        def __init__(self, grid: Grid) -> None:
            super().__init__()
            self.grid = grid

    def __init__(self, *, widest: int = 30, fixed: bool = False, id: str | None = None) -> None:
        """Make an empty grid; columns get at most `widest` cells, and with `fixed` the first one never scrolls."""
        super().__init__(id=id)
        self.widest, self.fixed = widest, fixed
        self.headings: list[str] = []
        self.cells: list[list[Text]] = []
        self.right: list[bool] = []
        self._wide: list[int] = []
        self._first = 0

    @property
    def count(self) -> int:
        """How many rows there are."""
        return len(self.cells)

    def show(self, headings: Sequence[str], cells: Sequence[Sequence[Text]], right: Sequence[bool]) -> None:
        """Show other cells; `right` says which columns are aligned to the right."""
        self.headings, self.cells, self.right = list(headings), [list(row) for row in cells], list(right)
        self._wide = [
            min(self.widest, max(Text(heading).cell_len, *(row[i].cell_len for row in self.cells), 1))
            if self.cells
            else min(self.widest, max(1, Text(heading).cell_len))
            for i, heading in enumerate(self.headings)
        ]
        self._first = self.least
        self.column = self.validate_column(self.column)
        self.changed()

    @property
    def least(self) -> int:
        """The first column that the cursor can stand in."""
        return 1 if self.fixed and len(self.headings) > 1 else 0

    def validate_column(self, column: int) -> int:
        """Keep the cursor in a column."""
        return max(self.least, min(column, len(self.headings) - 1))

    def watch_column(self) -> None:
        """Bring the column into view and say that it moved."""
        self.refresh()
        self.post_message(self.ColumnMoved(self))

    def action_column(self, columns: int) -> None:
        """Move the cursor by columns."""
        self.column += columns

    def go_across(self, x: int) -> bool:
        """Move the cursor to the column at cell `x`; return whether it stood there."""
        before, end = self.column, 1
        for number, cells in self._in_view(self.scrollable_content_region.width):
            end += cells + GAP
            if x < end:
                self.column = number
                break
        return self.column == before

    def line(self, index: int, width: int) -> Text:
        """Return a row; the cell under the cursor is underlined."""
        text = Text("›" if index == self.cursor and self.show_cursor else " ", no_wrap=True, end="")
        row = self.cells[index]
        for number, cells in self._in_view(width):
            part = self._fit(row[number], number, cells)
            if index == self.cursor and number == self.column and self.has_focus:
                part.stylize("underline")
            text.append_text(part).append(" " * GAP)
        return text

    def head(self, width: int) -> Text:
        """Return the headings, that of the cursor's column in reverse; arrows say that there are more."""
        text = Text(" ", style="bold", no_wrap=True, end="")
        shown = self._in_view(width)
        for number, cells in shown:
            part = self._fit(Text(self.headings[number]), number, cells)
            if number == self.column and self.has_focus:
                part.stylize("reverse")
            text.append_text(part).append(" " * GAP)
        more = ("‹" if self._first > self.least else "") + ("›" if shown and shown[-1][0] + 1 < len(self._wide) else "")
        text.truncate(max(0, width - len(more)), pad=True)
        return text.append(more)

    def _fit(self, cell: Text, number: int, cells: int) -> Text:
        part = cell.copy()
        part.truncate(cells, overflow="ellipsis")
        part.align("right" if self.right[number] else "left", cells)
        return part

    def _in_view(self, width: int) -> list[tuple[int, int]]:
        """Return number and width of the columns in view; scroll so that the cursor's column is among them."""
        if not self._wide:
            return []
        self._first = min(self._first, self.column)
        while self._first < self.column and self._total(self._first, self.column) > width - 1:
            self._first += 1
        numbers = [*range(self.least), *range(self._first, len(self._wide))]
        shown: list[tuple[int, int]] = []
        used = 1
        for number in numbers:
            cells = min(self._wide[number], max(1, width - used))
            if shown and used + self._wide[number] > width and number > self.column:
                break
            shown.append((number, cells))
            used += cells + GAP
        return shown

    def _total(self, first: int, last: int) -> int:
        numbers = [*range(self.least), *range(first, last + 1)]
        total: int = sum(self._wide[n] for n in numbers)
        return total + GAP * (len(numbers) - 1)
