"""Text that scrolls, by the keys that move in lists."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll


class Scroll(VerticalScroll, can_focus=True, inherit_bindings=False):
    """Text that scrolls by arrows and vim keys."""

    DEFAULT_CSS = """
    Scroll { scrollbar-size-vertical: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("j,down", "scroll_down", "Scroll down", show=False),
        Binding("k,up", "scroll_up", "Scroll up", show=False),
        Binding("g,home", "scroll_home", "To the start", show=False),
        Binding("G,end", "scroll_end", "To the end", show=False, key_display="G"),
        Binding("ctrl+d,pagedown", "page_down", "Page down", show=False),
        Binding("ctrl+u,pageup", "page_up", "Page up", show=False),
    ]
