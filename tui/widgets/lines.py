"""A list that paints only the lines in view: the base of tables, trees and logs."""

from __future__ import annotations

from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip


class Lines(ScrollView, can_focus=True, inherit_bindings=False):
    """Lines with a cursor, moved by arrows and vim keys. Subclasses say how many there are and how each looks."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "move(1)", "Next line", show=False),
        Binding("k,up", "move(-1)", "Previous line", show=False),
        Binding("g,home", "move_to(0)", "First line", show=False),
        Binding("G,end", "move_to(-1)", "Last line", show=False, key_display="G"),
        Binding("ctrl+d,pagedown", "page(1)", "Page down", show=False),
        Binding("ctrl+u,pageup", "page(-1)", "Page up", show=False),
        Binding("enter", "choose", "Open", show=False),
    ]
    COMPONENT_CLASSES: ClassVar[set[str]] = {"lines--cursor", "lines--cursor-blurred"}
    DEFAULT_CSS = """
    Lines {
        height: 1fr;
        overflow-x: hidden;
        overflow-y: auto;
        scrollbar-size-vertical: 1;
        & > .lines--cursor { background: $block-cursor-background; color: $block-cursor-foreground; text-style: bold; }
        & > .lines--cursor-blurred { background: $block-cursor-blurred-background; }
        &:nocolor > .lines--cursor { text-style: reverse; }
        &:ansi > .lines--cursor { text-style: reverse; }
    }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._on_screen: dict[int, Strip] = {}

    cursor: reactive[int] = reactive(0)
    show_cursor = True
    head_lines = 0
    """Lines at the top that do not scroll: 0 or 1."""

    class Moved(Message):
        """The cursor stands on another line."""

        def __init__(self, lines: Lines, index: int) -> None:
            super().__init__()
            self.lines, self.index = lines, index

        @property
        def control(self) -> Lines:
            """The list, so that handlers can be told apart by selector."""
            return self.lines

    class Chosen(Moved):
        """Enter was pressed on a line, or it was clicked while the cursor stood there."""

    @property
    def count(self) -> int:
        """How many lines there are."""
        raise NotImplementedError

    def line(self, index: int, width: int) -> Text:
        """Return line `index` for a width in cells. Called for lines in view, whenever they are painted."""
        raise NotImplementedError

    def head(self, width: int) -> Text:
        """Return the line at the top that does not scroll."""
        raise NotImplementedError

    def changed(self) -> None:
        """Paint what differs after the content has changed; the cursor stays within it."""
        self.virtual_size = Size(0, self.count + self.head_lines)
        if self.cursor >= self.count:
            self.cursor = max(0, self.count - 1)
        self._repaint()

    def _repaint(self) -> None:
        """Ask for the lines that differ from what stands on the screen: over SSH every byte takes time."""
        width = self.size.width
        stale = [y for y in range(self.size.height) if self._on_screen.get(y) != self._strip(y)]
        if stale:
            self.refresh(*(Region(0, y, width, 1) for y in stale))

    def on_resize(self) -> None:
        """Follow the width, and keep the cursor in view where there are fewer lines now."""
        self.changed()
        if self.show_cursor:
            self.call_after_refresh(self._bring_into_view)

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a line."""
        return max(0, min(cursor, self.count - 1))

    def watch_cursor(self) -> None:
        """Bring the cursor into view and say that it moved."""
        if self.show_cursor:
            self._bring_into_view()
            self._repaint()
            self.post_message(self.Moved(self, self.cursor))

    def _bring_into_view(self) -> None:
        self.scroll_to_region(Region(0, self.cursor, 1, 1 + self.head_lines), animate=False, force=True)

    def render_line(self, y: int) -> Strip:
        """Paint one line of the screen."""
        self._on_screen[y] = strip = self._strip(y)
        return strip

    def _strip(self, y: int) -> Strip:
        width = self.scrollable_content_region.width
        index = y - self.head_lines + self.scroll_offset.y
        style = self.rich_style
        if y < self.head_lines:
            return to_strip(self.head(width), width, style, self.app.console)
        if not 0 <= index < self.count:
            return Strip.blank(width, style)
        if self.show_cursor and index == self.cursor:
            style += self.get_component_rich_style("lines--cursor" if self.has_focus else "lines--cursor-blurred")
        return to_strip(self.line(index, width), width, style, self.app.console, self.scroll_offset.x)

    def action_move(self, lines: int) -> None:
        """Move the cursor by lines; without a cursor, scroll."""
        if self.show_cursor:
            self.cursor += lines
        else:
            self.scroll_relative(y=lines, animate=False)

    def action_move_to(self, index: int) -> None:
        """Move to a line; -1 is the last."""
        if self.show_cursor:
            self.cursor = index if index >= 0 else self.count + index
        elif index == 0:
            self.scroll_home(animate=False)
        else:
            self.scroll_end(animate=False)

    def action_page(self, pages: int) -> None:
        """Move by pages."""
        self.action_move(pages * max(1, self.size.height - 1 - self.head_lines))

    def action_choose(self) -> None:
        """Say that the line was chosen."""
        if self.count:
            self.post_message(self.Chosen(self, self.cursor))

    def on_click(self, event: events.Click) -> None:
        """Move the cursor to the line that was clicked; choose it if it stood there."""
        index = event.y - self.head_lines + self.scroll_offset.y
        if not (self.show_cursor and event.y >= self.head_lines and 0 <= index < self.count):
            return
        if self.go_across(event.x) and index == self.cursor:
            self.action_choose()
        self.cursor = index

    def go_across(self, x: int) -> bool:
        """Go to what stands at cell `x` of a line; return whether the cursor stood there."""
        return True


def to_strip(text: Text, width: int, style: Style, console: object, x: int = 0) -> Strip:
    """Return one line of text as a strip of exactly `width` cells, from cell `x` on."""
    segments = list(Segment.apply_style(text.render(console, end=""), style))  # type: ignore[arg-type]
    return Strip(segments).crop_extend(x, x + width, style)
