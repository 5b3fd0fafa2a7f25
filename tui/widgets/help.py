"""Help: what this place is for, and the keys that work here, which can be searched and pressed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.screen import ModalScreen, Screen
from textual.widgets import Input, Static

from tui.widgets.lines import Lines
from tui.widgets.modal import Option, OptionLines
from tui.widgets.pane import Box


@dataclass(frozen=True)
class Key:
    """A key that works where the focus is: how it is shown, what it does, and where the action belongs."""

    key: str
    display: str
    description: str
    action: str
    node: DOMNode
    shown: bool
    """Whether it is one of the few in the last line."""


def keys_of(screen: Screen[object]) -> list[Key]:
    """Return the keys that work on a screen at present, those of the last line first; one line per action."""
    app: App[object] = screen.app
    found: dict[tuple[str, str], Key] = {}
    for node, binding, enabled, _ in screen.active_bindings.values():
        if not enabled or not binding.description or binding.system:
            continue
        display = app.get_key_display(binding)
        known = found.get((binding.action, binding.description))
        if known is not None:
            display = f"{known.display} {display}" if display not in known.display.split() else known.display
        found[binding.action, binding.description] = Key(
            known.key if known else binding.key, display, binding.description, binding.action, node,
            binding.show or (known is not None and known.shown),
        )  # fmt: skip
    return sorted(found.values(), key=lambda key: not key.shown)


class Help(ModalScreen[Key | None]):
    """Text and keys of where the focus was. Returns the key that was picked, to be pressed."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "dismiss", "Close"),
        Binding("down,ctrl+j", "move(1)", "Next", show=False),
        Binding("up,ctrl+k", "move(-1)", "Previous", show=False),
    ]

    def __init__(self, title: str, text: str, keys: Sequence[Key]) -> None:
        super().__init__()
        self.heading, self.text, self.keys = title, text, list(keys)

    def compose(self) -> ComposeResult:
        """Lay text, filter and keys above each other."""
        with Box(title=f"Help · {self.heading}", classes="dialog picker"):
            if self.text:
                yield Static(self.text, markup=False, classes="dialog-intro")
            yield Input(placeholder="type to search, enter to do it, esc to close", compact=True)
            yield OptionLines([])

    def on_mount(self) -> None:
        """Show all keys."""
        self._narrow("")

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show the keys whose description has all the words."""
        self._narrow(event.value)

    def _narrow(self, wanted: str) -> None:
        words = wanted.lower().split()
        lines = self.query_one(OptionLines)
        width = max((Text(k.display).cell_len for k in self.keys), default=0)
        lines.options = [
            Option(f"{key.display.ljust(width)}  {key.description}", str(i))
            for i, key in enumerate(self.keys)
            if all(word in f"{key.display} {key.description}".lower() for word in words)
        ]
        lines.changed()

    def on_input_submitted(self) -> None:
        """Do what the line says."""
        self.query_one(OptionLines).action_choose()

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Do what the line says."""
        event.stop()
        self.dismiss(self.keys[int(self.query_one(OptionLines).options[event.index].value)])

    def action_move(self, lines: int) -> None:
        """Move the cursor while the filter keeps the focus."""
        self.query_one(OptionLines).action_move(lines)
