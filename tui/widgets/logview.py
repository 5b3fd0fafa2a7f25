"""A log: lines are added at the end, the view follows them until someone scrolls up."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType

from safedl.text import one_line
from tui.widgets.lines import Lines

LONGEST = 5000
"""Lines that are kept."""


class LogView(Lines):
    """Plain lines; `G` follows the end, `n` and `N` go to the next and previous line with the text looked for."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "follow", "Follow the end", show=False),
        Binding("n", "find(1)", "Next match", show=False),
        Binding("N", "find(-1)", "Previous match", show=False, key_display="N"),
        Binding("h,left", "sideways(-8)", "Scroll left", show=False),
        Binding("l,right", "sideways(8)", "Scroll right", show=False),
    ]
    show_cursor = False

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._lines: deque[str] = deque(maxlen=LONGEST)
        self.following = True
        self.wanted = ""
        self.unseen = 0
        """Lines that were added below the view."""
        self._left = 0

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self._lines)

    def set_lines(self, lines: Iterable[str]) -> None:
        """Replace all lines."""
        self._lines.clear()
        self.unseen = 0
        self.add(list(lines))

    def add(self, lines: Sequence[str]) -> None:
        """Add lines at the end."""
        self._lines.extend(one_line(text) for text in lines)
        at_end = self.following or self.scroll_offset.y >= self.max_scroll_y
        self.unseen = 0 if at_end else self.unseen + len(lines)
        self.changed()
        if at_end:
            self._show_end()

    def _show_end(self) -> None:
        self.call_after_refresh(self.scroll_end, animate=False, immediate=True)

    def watch_show_vertical_scrollbar(self) -> None:
        """Show the end once there is a scroll bar, since nothing scrolls before."""
        if self.following:
            self._show_end()

    def on_resize(self) -> None:
        """Keep the end in view where there are fewer lines now, and where the log was filled before it was laid out."""
        if self.following:
            self._show_end()

    def line(self, index: int, width: int) -> Text:
        """Return a line, what is looked for in reverse."""
        text = Text(self._lines[index][self._left :], no_wrap=True, end="")
        if self.wanted:
            text.highlight_words([self.wanted], "reverse", case_sensitive=False)
        return text

    def on_mouse_scroll_up(self) -> None:
        """Someone reads: stop following."""
        self.following = False

    def action_move(self, lines: int) -> None:
        """Scroll; upwards stops following."""
        self.following = self.following and lines > 0
        super().action_move(lines)

    def action_move_to(self, index: int) -> None:
        """Scroll to the start, or to the end and follow it."""
        self.following = index == -1
        self.unseen = 0
        super().action_move_to(index)

    def action_follow(self) -> None:
        """Go to the end and follow it."""
        self.action_move_to(-1)

    def action_sideways(self, cells: int) -> None:
        """Scroll long lines sideways."""
        self._left = max(0, self._left + cells)
        self.refresh()

    def look_for(self, text: str) -> int:
        """Show where `text` occurs and return in how many lines."""
        self.wanted = text
        self.refresh()
        return sum(text.lower() in line.lower() for line in self._lines) if text else 0

    def action_find(self, direction: int) -> None:
        """Go to the next line with what is looked for, or the previous one."""
        if not self.wanted:
            return
        here = self.scroll_offset.y
        order = range(here + 1, self.count) if direction > 0 else range(here - 1, -1, -1)
        for index in order:
            if self.wanted.lower() in self._lines[index].lower():
                self.following = False
                self.scroll_to(y=index, animate=False)
                return
        self.app.bell()
