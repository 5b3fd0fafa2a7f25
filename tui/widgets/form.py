"""Forms generated from schemas: one line per parameter, edited in place, what is wrong under it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Region
from textual.message import Message
from textual.widgets import Input, Static

from safedl.catalog import parameter_table
from safedl.errors import UsageError
from safedl.profile import document as yaml_document
from safedl.profile.problems import allowed
from safedl.text import one_line, printable
from tui.widgets.inorder import InOrder
from tui.widgets.lines import Lines
from tui.widgets.modal import Option, Picker

NOTHING = "–"
"""How null is shown."""


@dataclass(frozen=True)
class Field:
    """A parameter: its key, type (`choice`, `boolean`, `integer`, `number`, `string` ...), default, texts."""

    name: str
    kind: str
    default: Any
    allowed: str
    description: str
    choices: tuple[Any, ...] = ()
    nullable: bool = False

    @property
    def hint(self) -> str:
        """What is allowed, in a few cells."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        return self.allowed.removeprefix("a whole number ").removeprefix("a number ") if self.is_number else ""

    @property
    def rule(self) -> str:
        """What is allowed, in words, where that is not plain from the description."""
        return f"{self.allowed[:1].upper()}{self.allowed[1:]}; " if self.choices or self.is_number else ""

    @property
    def is_number(self) -> bool:
        """Whether a number is asked for."""
        return self.kind in ("integer", "number")

    def parse(self, text: str) -> Any:
        """Return the value that a typed text means; a text that means none comes back as it is."""
        text = text.strip()
        if not text and self.nullable:
            return None
        if self.kind == "string":
            return text
        try:
            return yaml_document.read(f"value: {text}", "")["value"]
        except UsageError:
            return text

    def next(self, value: Any) -> Any:
        """Return the choice that follows a value."""
        options = [*self.choices, None] if self.nullable else [*self.choices]
        return options[(options.index(value) + 1) % len(options)] if value in options else options[0]


def fields_of(
    model: type[BaseModel], defaults: Mapping[str, Any] | None = None, *, leave: Sequence[str] = (), prefix: str = ""
) -> list[Field]:
    """Return a field for each parameter of a schema, but those to `leave` out; `defaults` go before the schema's."""
    return [
        Field(
            prefix + row["name"], row["type"], (defaults or {}).get(row["name"], row["default"]), allowed(row),
            row["description"], tuple(row["choices"] or ()), row["nullable"],
        )
        for row in parameter_table(model)
        if row["name"] not in leave
    ]  # fmt: skip


def value_text(value: Any) -> str:
    """Return a value as it is shown."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    return json.dumps(value) if isinstance(value, list | tuple | dict) else str(value)


def typed_text(value: Any) -> str:
    """Return a value as it is typed: whole, where what is shown is rounded."""
    shown = value_text(value)
    return shown if not isinstance(value, float) or float(shown) == value else repr(value)


class FieldLines(Lines):
    """The fields, each with its value; what is wrong with one stands below it."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "edit")]

    def __init__(self) -> None:
        super().__init__()
        self.fields: list[Field] = []
        self.values: dict[str, Any] = {}
        self.errors: dict[str, str] = {}
        self.rows: list[tuple[Field, str]] = []
        """The lines: a field, and what is wrong with it if the line says that."""

    @property
    def count(self) -> int:
        """How many lines there are."""
        return len(self.rows)

    @property
    def current(self) -> Field | None:
        """The field under the cursor."""
        return self.rows[self.cursor][0] if 0 <= self.cursor < len(self.rows) else None

    @property
    def indent(self) -> int:
        """The cell at which values begin."""
        return 3 + max((len(f.name) for f in self.fields), default=0)

    def changed(self) -> None:
        """Lay out the lines; the cursor stays on its field."""
        before = self.current
        self.rows = [(f, t) for f in self.fields for t in ("", *filter(None, [self.errors.get(f.name)]))]
        super().changed()
        place = next((i for i, (f, t) in enumerate(self.rows) if before and f.name == before.name and not t), None)
        if place is not None and place != self.cursor:
            self.cursor = place
        elif self.is_attached:
            self.call_after_refresh(self.watch_cursor)

    def validate_cursor(self, cursor: int) -> int:
        """Keep the cursor on a field: it jumps over what is wrong with one."""
        cursor = super().validate_cursor(cursor)
        if self.rows and self.rows[cursor][1]:
            return cursor + 1 if cursor > self.cursor and cursor + 1 < self.count else cursor - 1
        return cursor

    def watch_cursor(self) -> None:
        """Bring what is wrong with the field into view too."""
        super().watch_cursor()
        field = self.current
        if field is not None and field.name in self.errors:
            self.scroll_to_region(Region(0, self.cursor, 1, 2), animate=False, force=True)

    def line(self, index: int, width: int) -> Text:
        """Return a field: name, value, a star if it is not the default, what is allowed."""
        field, error = self.rows[index]
        if error:
            text = Text("   ! ", style="bold red", no_wrap=True, end="").append(one_line(error))
            text.truncate(width, overflow="ellipsis")
            return text
        value = self.values.get(field.name)
        shown = value_text(value)
        if field.kind == "boolean" and isinstance(value, bool):
            shown = f"[{'x' if value else ' '}] {shown}"
        text = Text("›" if index == self.cursor else " ", no_wrap=True, end="")
        text.append(f" {field.name}".ljust(self.indent - 1))
        room = min(24, max(len(value_text(v)) for v in self.values.values()) + 4)
        part = Text(one_line(shown))
        part.truncate(room, overflow="ellipsis", pad=True)
        text.append_text(part).append(" ").append("*" if value != field.default else " ", style="bold")
        text.append(f" {field.hint}", style="dim")
        text.truncate(width, overflow="ellipsis")
        return text


class Entry(InOrder, Input):
    """The line in which a value is typed: `enter` takes it, `esc` leaves it as it was."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "submit", "take it"),
        Binding("escape", "leave", "leave as it was"),
        Binding("up,down", "leave", "Leave as it was", show=False),
    ]

    def action_leave(self) -> None:
        """Close without a change."""
        if isinstance(self.parent, Form):
            self.parent.close_entry()

    def on_blur(self) -> None:
        """Close without a change when the focus goes elsewhere, but not when it leaves the terminal."""
        if self.app.app_focus:
            self.remove_class("-open")


class Form(Vertical):
    """Fields with their values and what is wrong with them. It changes nothing: it says what was entered."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "next", "next value"),
        Binding("d", "default", "default"),
    ]

    DEFAULT_CSS = """
    Form { layers: base edit; height: 1fr; }
    Form FieldLines { layer: base; }
    Form #about-field { layer: base; height: auto; color: $text-muted; }
    Form Entry { layer: edit; display: none; height: 1; background: $boost; color: $text; }
    Form Entry.-open { display: block; }
    """

    class Changed(Message):
        """A value was entered; `reset` means that the default is to hold again."""

        def __init__(self, form: Form, name: str, value: Any, *, reset: bool = False) -> None:
            super().__init__()
            self.form, self.name, self.value, self.reset = form, name, value, reset

    _entered: Field | None = None
    """The field whose value is being typed."""

    def compose(self) -> ComposeResult:
        """Lay the fields above the text about the one under the cursor."""
        yield FieldLines()
        yield Static("", id="about-field", markup=False)
        yield Entry(compact=True)

    @property
    def lines(self) -> FieldLines:
        """The list of fields, which takes the focus."""
        return self.query_one(FieldLines)

    @property
    def editing(self) -> bool:
        """Whether a value is being typed."""
        return self.query_one(Entry).has_class("-open")

    def show(self, fields: Iterable[Field], values: Mapping[str, Any], errors: Mapping[str, str]) -> None:
        """Show fields with the values that were given, defaults for the others, and what is wrong."""
        lines = self.lines
        lines.fields = list(fields)
        lines.values = {f.name: values.get(f.name, f.default) for f in lines.fields}
        lines.errors = dict(errors)
        lines.changed()
        self._describe()

    def _describe(self) -> None:
        field = self.lines.current
        text = ""
        if field is not None:
            error = self.lines.errors.get(field.name)
            text = f"! {error}" if error else f"{field.rule}default: {value_text(field.default)}"
            text += f"\n{field.description}"
        about = self.query_one("#about-field", Static)
        height = self.size.height  # rows that no field needs are the text's, and half of all at least
        about.styles.max_height = max(3, (height + 1) // 2, height - self.lines.count)
        about.update(Text(printable(text)))

    def on_resize(self) -> None:
        """Give the text the rows that are free now."""
        self._describe()

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Describe the field under the cursor."""
        event.stop()
        self._describe()

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Edit a field: a switch turns, choices open a list, all else is typed in place."""
        event.stop()
        field = self.lines.current
        if field is None:
            return
        if field.kind == "boolean":
            self.action_next()
        elif field.choices:
            options = [Option(value_text(c), str(i)) for i, c in enumerate(field.choices)]
            options += [Option(f"{NOTHING} (none)", "")] if field.nullable else []
            self.app.push_screen(Picker(field.name, options, intro=field.description), self._picker_of(field))
        else:
            self._open_entry(field)

    def _picker_of(self, field: Field) -> Any:
        def picked(index: str | None) -> None:
            if index is not None:
                self.post_message(self.Changed(self, field.name, field.choices[int(index)] if index else None))

        return picked

    def _open_entry(self, field: Field) -> None:
        entry, lines = self.query_one(Entry), self.lines
        self._entered = field
        value = lines.values.get(field.name)
        entry.value = "" if value is None else typed_text(value)
        entry.styles.offset = (lines.indent, lines.cursor - lines.scroll_offset.y)
        entry.styles.width = max(8, lines.size.width - lines.indent)
        entry.add_class("-open")
        entry.focus()

    def close_entry(self) -> None:
        """Go back to the list of fields."""
        self.query_one(Entry).remove_class("-open")
        self.lines.focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Say what was typed."""
        event.stop()
        field, self._entered = self._entered, None
        if field is not None and self.editing:
            self.close_entry()
            self.post_message(self.Changed(self, field.name, field.parse(event.value)))

    def action_next(self) -> None:
        """Take the next value of a choice, or turn a switch."""
        field = self.lines.current
        if field is None:
            return
        value = self.lines.values.get(field.name)
        if field.kind == "boolean":
            self.post_message(self.Changed(self, field.name, not value))
        elif field.choices:
            self.post_message(self.Changed(self, field.name, field.next(value)))
        else:
            self._open_entry(field)

    def action_default(self) -> None:
        """Let the default hold."""
        field = self.lines.current
        if field is not None:
            self.post_message(self.Changed(self, field.name, field.default, reset=True))
