"""Lists of things to choose: `space` ticks one, and each says in words whether it is ticked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from safedl.text import one_line
from tui.widgets.lines import Lines


@dataclass(frozen=True)
class Pick:
    """A line: its value, its mark (`[x]`, `( )` ..., may be empty), what it is called, and what is said about it."""

    value: str
    mark: str
    text: str
    note: str = ""


class Picks(Lines):
    """Lines with marks; the notes stand in a column of their own."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("space", "tick", "choose")]
    empty = ""
    """What is shown instead of no lines."""

    class Ticked(Lines.Moved):
        """Space was pressed on a line; the cursor may have gone on since."""

        def __init__(self, lines: Picks, index: int) -> None:
            super().__init__(lines, index)
            self.pick = lines.picks[index]

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.picks: list[Pick] = []

    @property
    def count(self) -> int:
        """How many lines there are."""
        return max(len(self.picks), bool(self.empty))

    @property
    def current(self) -> Pick | None:
        """The line under the cursor."""
        return self.picks[self.cursor] if 0 <= self.cursor < len(self.picks) else None

    def show(self, picks: Sequence[Pick]) -> None:
        """Show other lines; the cursor stays on the same value, if it is still there."""
        before = self.current
        self.picks = list(picks)
        self.changed()
        if before is not None:
            self.point_at(before.value)

    def point_at(self, value: str) -> None:
        """Put the cursor on a value."""
        self.cursor = next((i for i, p in enumerate(self.picks) if p.value == value), self.cursor)

    def line(self, index: int, width: int) -> Text:
        """Return mark, text and note."""
        if not self.picks:
            return Text(f" {self.empty}", no_wrap=True, end="")
        pick = self.picks[index]
        column = max(len(p.mark) + len(p.text) for p in self.picks) + 1
        text = Text("›" if index == self.cursor else " ", no_wrap=True, end="")
        text.append(f"{pick.mark} {one_line(pick.text)}".ljust(column) if pick.mark else one_line(pick.text))
        if pick.note and width - text.cell_len >= min(8, len(pick.note) + 2):
            text.append(f"  {one_line(pick.note)}", style="dim")
        text.truncate(width, overflow="ellipsis")
        return text

    def action_tick(self) -> None:
        """Say that the line was ticked."""
        if self.picks:
            self.post_message(self.Ticked(self, self.cursor))
