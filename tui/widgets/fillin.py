"""A dialog with a few lines to fill in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.screen import ModalScreen
from textual.widgets import Input, Label, Static

from safedl.text import printable
from tui.widgets.inorder import InOrder
from tui.widgets.modal import Choice, Dialog
from tui.widgets.pane import Box

if TYPE_CHECKING:
    from tui.app import SafedlApp

Values = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """A line to fill in: its name, label, what stands in it already, and an example of what may stand there."""

    name: str
    label: str
    value: str = ""
    example: str = ""


class Field(InOrder, Input):
    """A line of a `FillIn`. `enter` goes on at once, so that what is typed right after it lands in the next line."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down", "app.focus_next", "Next line", show=False),
        Binding("up", "app.focus_previous", "Previous line", show=False),
    ]

    async def action_submit(self) -> None:
        """Go on to the next line, or take all."""
        fill_in = self.screen
        assert isinstance(fill_in, FillIn)
        fill_in.go_on(self)


class FillIn(ModalScreen[Values | None]):
    """Lines to fill in. `enter` in the last one takes them, elsewhere goes on to the next; `ctrl+s` takes them all.

    Returns what was written by name, or None for `esc`. `check` may object with a sentence, which is then shown.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss", "Close"),
        Binding("ctrl+s", "take", "Take", show=False),
    ]
    DEFAULT_CSS = """
    FillIn { align: center middle; background: $background 60%; }
    FillIn Field { background: $boost; }
    FillIn .objection { color: $error; height: auto; }
    """

    def __init__(
        self,
        title: str,
        lines: Sequence[Line],
        *,
        intro: str = "",
        check: Callable[[Values], str | None] = lambda values: None,
    ) -> None:
        super().__init__()
        self.heading, self.lines, self.intro, self.check = title, tuple(lines), printable(intro), check

    def compose(self) -> ComposeResult:
        """Lay the lines below each other."""
        with Box(title=self.heading, classes="dialog"):
            if self.intro:
                yield Static(self.intro, markup=False, classes="dialog-intro")
            for line in self.lines:
                yield Label(line.label, markup=False)
                yield Field(line.value, placeholder=line.example, compact=True, id=f"line-{line.name}")
            yield Static("", classes="objection", markup=False)
            yield Static("[enter] next, then take   [ctrl+s] take   [esc] leave", markup=False, classes="dialog-keys")

    def go_on(self, field: Field) -> None:
        """Go on to the next line; from the last one take all."""
        if field.id == f"line-{self.lines[-1].name}":
            self.action_take()
        else:
            self.focus_next(Field)

    def action_take(self) -> None:
        """Return what was written, unless there is an objection."""
        values = {line.name: self.query_one(f"#line-{line.name}", Field).value.strip() for line in self.lines}
        try:
            objection = self.check(values)
        except (OSError, RuntimeError, ValueError) as error:  # a path that cannot be looked at, a ~user who is nobody
            objection = str(getattr(error, "strerror", None) or error)
        if objection is None:
            self.dismiss(values)
        else:
            self.query_one(".objection", Static).update(printable(objection))
            self.app.bell()


def ask_path(
    app: SafedlApp, title: str, suggested: Path, objection: Callable[[str], str | None], then: Callable[[Path], None]
) -> None:
    """Ask where to write a file, and before one is overwritten whether it may be; then call `then` with the path."""

    def checked(values: Values) -> str | None:
        return objection(str(Path(values["path"]).expanduser())) if values["path"] else "name a file"

    def taken(values: Values | None) -> None:
        if values is None:
            return
        path = Path(values["path"]).expanduser().absolute()
        if not path.exists():
            then(path)
            return
        overwrite = (Choice("o", "overwrite it", "yes"),)
        app.push_screen(Dialog(f"{path.name} exists", str(path), overwrite, safe="leave it"), partial(confirmed, path))

    def confirmed(path: Path, choice: str | None) -> None:
        if choice is not None:
            then(path)

    app.push_screen(FillIn(title, [Line("path", "File", str(suggested))], check=checked), taken)
