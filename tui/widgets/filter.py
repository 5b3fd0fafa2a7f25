"""The filter line of a list: `/` opens it, typing narrows, `enter` goes back to the list, `esc` clears."""

from __future__ import annotations

from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.message import Message
from textual.timer import Timer
from textual.widgets import Input

from tui.widgets.inorder import InOrder

PAUSE = 0.05
"""Seconds without a key after which the list is narrowed."""


class FilterBar(InOrder, Input):
    """One line that is hidden while it is empty and has no focus."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "leave", "to the list"),
        Binding("escape", "clear", "clear"),
        Binding("down", "leave", "To the list", show=False),
    ]

    class Narrowed(Message):
        """Typing has paused: this is the filter now."""

        def __init__(self, text: str, bar: FilterBar) -> None:
            super().__init__()
            self.text, self.bar = text, bar

    class Left(Message):
        """The list gets the focus back."""

    def __init__(self, placeholder: str, value: str = "", *, id: str | None = None) -> None:
        super().__init__(value, placeholder=placeholder, compact=True, classes="filter", id=id, select_on_focus=False)
        self._timer: Timer | None = None
        self._told = value
        self.set_class(bool(value), "-open")

    def open(self) -> None:
        """Show the line and take the focus."""
        self.add_class("-open")
        self.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Wait for a pause."""
        event.stop()
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(PAUSE, self._tell)

    def _tell(self) -> None:
        if self.value != self._told:
            self._told = self.value
            self.post_message(self.Narrowed(self.value, self))

    def action_leave(self) -> None:
        """Go back to the list, with the filter as it is."""
        self._tell()
        self.set_class(bool(self.value), "-open")
        self.post_message(self.Left())

    def action_clear(self) -> None:
        """Clear the filter and go back to the list."""
        self.value = ""
        self.action_leave()
