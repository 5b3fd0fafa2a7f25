"""Dialogs: letters act, `esc` is the safe choice, `y` copies the text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from safedl.errors import NotFoundError, SafedlError, StoreError, UsageError, surroundings
from safedl.text import printable
from tui.services.ask import why
from tui.widgets.lines import Lines
from tui.widgets.pane import Box
from tui.widgets.scroll import Scroll

if TYPE_CHECKING:
    from tui.app import SafedlApp


@dataclass(frozen=True)
class Choice:
    """One thing that can be done: its key, what it does, and what the dialog then returns."""

    key: str
    label: str
    value: str


class Dialog(ModalScreen[str | None]):
    """A question with a few choices. Returns the chosen value, or None for `esc`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("y", "copy", "Copy", show=False),
        Binding("question_mark,f1", "app.help", "Help", show=False),
    ]

    def __init__(self, title: str, body: str, choices: Sequence[Choice] = (), *, safe: str = "close") -> None:
        super().__init__()
        self.heading, self.body, self.choices, self.safe = title, printable(body), tuple(choices), safe

    def compose(self) -> ComposeResult:
        """Lay the text above the choices."""
        keys = Text()
        for choice in self.choices:
            keys.append(f"[{choice.key}]", style="bold").append(f" {choice.label}\n")
        keys.append("[y]", style="bold").append(" copy this text   ").append("[esc]", style="bold")
        keys.append(f" {self.safe}")
        with Box(title=self.heading, classes="dialog"):
            with Scroll(classes="dialog-body"):
                yield Static(self.body, markup=False)
            yield Static(keys, classes="dialog-keys")

    def on_key(self, event: events.Key) -> None:
        """Take a choice by its key."""
        for choice in self.choices:
            if choice.key in (event.character, event.key):
                event.stop()
                self.dismiss(choice.value)

    def action_copy(self) -> None:
        """Copy the dialog's text."""
        cast("SafedlApp", self.app).copy(f"{self.heading}\n{self.body}")


NEXT_STEPS = {
    UsageError: "Mend the input that the text names, then try again.",
    NotFoundError: "It may have been moved or deleted; read the list again.",
    StoreError: "Nothing was changed.",
}
"""What to do, beside what the text says itself."""


def error_dialog(error: Exception, doing: str) -> Dialog:
    """Return a dialog that says what went wrong, why, and what to do next."""
    step = next((text for kind, text in NEXT_STEPS.items() if isinstance(error, kind)), "")
    if not isinstance(error, SafedlError) and surroundings(error) is None:
        step = "This is a fault of Safe-DL. What runs goes on; please report the text above."
    return Dialog(f"Could not {doing}", f"{why(error)}\n\n{step}".rstrip())


@dataclass(frozen=True)
class Option:
    """A line of a picker: what is shown, and what picking it returns."""

    text: str
    value: str


class OptionLines(Lines):
    """The lines of a picker."""

    def __init__(self, options: Sequence[Option], *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.options = list(options)

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self.options)

    def line(self, index: int, width: int) -> Text:
        """Return the option's text."""
        text = Text(f"{'›' if index == self.cursor else ' '} {printable(self.options[index].text)}", no_wrap=True)
        text.truncate(width, overflow="ellipsis")
        return text


class Picker(ModalScreen[str | None]):
    """A list to pick one line from: type to narrow it, `enter` takes it. Returns its value, or None for `esc`."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("down,ctrl+j", "move(1)", "Next", show=False),
        Binding("up,ctrl+k", "move(-1)", "Previous", show=False),
    ]

    def __init__(self, title: str, options: Sequence[Option], *, intro: str = "") -> None:
        super().__init__()
        self.heading, self.all, self.intro = title, tuple(options), printable(intro)

    def compose(self) -> ComposeResult:
        """Lay the filter above the list."""
        with Box(title=self.heading, classes="dialog picker"):
            if self.intro:
                yield Static(self.intro, markup=False, classes="dialog-intro")
            yield Input(placeholder="type to narrow, ↑↓ to move, enter to take, esc to close", compact=True)
            yield OptionLines(self.all)

    def on_input_changed(self, event: Input.Changed) -> None:
        """Narrow the list to lines with all the words."""
        words = event.value.lower().split()
        lines = self.query_one(OptionLines)
        found = [o for o in self.all if all(word in o.text.lower() for word in words)]
        lines.options = sorted(found, key=lambda o: not o.text.lower().startswith(event.value.lower()))
        lines.changed()
        self.query_one(Box).title(self.heading, "" if lines.options else "nothing matches")

    def on_input_submitted(self) -> None:
        """Take the line under the cursor."""
        self.query_one(OptionLines).action_choose()

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Take the line."""
        event.stop()
        self.dismiss(self.query_one(OptionLines).options[event.index].value)

    def action_move(self, lines: int) -> None:
        """Move the cursor while the filter keeps the focus."""
        self.query_one(OptionLines).action_move(lines)
