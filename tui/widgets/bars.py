"""The lines around the panes: where one is and what runs, a sentence, and the keys that matter here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text
from textual import events
from textual.binding import Binding
from textual.message import Message
from textual.widget import Widget

from safedl.text import one_line
from tui.states import sign
from tui.widgets.pane import Pane

FIXED_HINTS = (("^p", "cmds"), ("?", "help"), ("^q", "quit"))

LONGEST_HINT = 26
"""Cells of a description that is worth its place; the help has them all."""


@dataclass(frozen=True)
class Tab:
    """A pane's number key, name and title."""

    key: str
    name: str
    title: str


class Header(Widget):
    """The first line: the panes, the present one in brackets, and how many experiments run."""

    class Picked(Message):
        """A pane was clicked."""

        def __init__(self, name: str) -> None:
            super().__init__()
            self.pane = name

    def __init__(self, tabs: Sequence[Tab]) -> None:
        super().__init__(id="header")
        self.tabs, self.current, self.running = tuple(tabs), "", 0
        self._ends: list[tuple[int, str]] = []

    def show(self, current: str, running: int) -> None:
        """Show another state."""
        if (current, running) != (self.current, self.running):
            self.current, self.running = current, running
            self.refresh()

    def render(self) -> Text:
        """Draw the line."""
        text = self._tabs()
        if text.cell_len > self.size.width - 4:
            text = self._tabs(named=False)
        if text.cell_len > self.size.width - 4:
            text = self._tabs(short=True)
        dot = sign("●")
        jobs = f"{dot} {self.running} running " if self.size.width - text.cell_len > 14 else f"{dot}{self.running} "
        jobs = jobs if self.running else ""
        text.truncate(max(0, self.size.width - len(jobs)), pad=True)
        return text.append(jobs, style="bold")

    def _tabs(self, *, named: bool = True, short: bool = False) -> Text:
        """Return the panes, after the app's name if `named`; `short`: of all but the present one the key alone."""
        text = Text(" safedl " if named else "", style="bold", no_wrap=True, end="")
        self._ends = []
        for tab in self.tabs:
            here = tab.name == self.current
            label = tab.key if short and not here else f"{tab.key} {tab.title}"
            text.append(f"[{label}]" if here else f" {label} ", style="bold reverse" if here else "not bold")
            self._ends.append((text.cell_len, tab.name))
        return text

    def on_click(self, event: events.Click) -> None:
        """Go to the pane that was clicked."""
        name = next((name for end, name in self._ends if event.x < end), None)
        if name is not None:
            self.post_message(self.Picked(name))


class Status(Widget):
    """One sentence about the present pane."""

    def __init__(self) -> None:
        super().__init__(id="status")
        self.sentence = ""

    def show(self, sentence: str) -> None:
        """Show another sentence."""
        if sentence != self.sentence:
            self.sentence = sentence
            self.refresh()

    def render(self) -> Text:
        """Draw the line."""
        text = Text(one_line(self.sentence), no_wrap=True, end="")
        text.truncate(self.size.width, overflow="ellipsis")
        return text


class Hints(Widget):
    """The last line: as many keys of where the focus is as there is room for, then the three that work everywhere."""

    def __init__(self) -> None:
        super().__init__(id="hints")

    def on_mount(self) -> None:
        """Follow the focus."""
        self.screen.bindings_updated_signal.subscribe(self, lambda _: self.refresh())

    def render(self) -> Text:
        """Draw the line."""
        fixed = Text("  ".join(f"{key} {word}" for key, word in FIXED_HINTS) + " ", style="bold", end="")
        room = self.size.width - fixed.cell_len
        hints = Text(" ", no_wrap=True, end="")
        for binding in self._told():
            part = Text.assemble((self.app.get_key_display(binding), "bold"), f" {lower(binding.description)}  ")
            if hints.cell_len + part.cell_len <= room:
                hints.append_text(part)
        hints.truncate(room, pad=True)
        return hints.append_text(fixed)

    def _told(self) -> list[Binding]:
        """Return what works here, the most important first: what is to be shown, then the pane's other keys."""
        active = [a for a in self.screen.active_bindings.values() if a.enabled and a.binding.description]
        focused = self.screen.focused
        if focused is not None and focused.check_consume_key("a", "a"):  # in a text, the pane's keys are letters
            active = [a for a in active if not isinstance(a.node, Pane)]
        others = [a.binding for a in active if isinstance(a.node, Pane) and not a.binding.show]
        found: dict[str, Binding] = {}
        for binding in [a.binding for a in active if a.binding.show] + others:
            if binding.show or len(binding.description) <= LONGEST_HINT:
                found.setdefault(binding.action, binding)
        return list(found.values())


def lower(text: str) -> str:
    """Return a description as a part of a line: without a capital, unless that is more than its first letter's."""
    return text[:1].lower() + text[1:] if text[1:2].islower() or text[1:2] == " " else text
