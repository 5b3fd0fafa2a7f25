"""Example pictures of a run, side by side as they fit."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widget import Widget

from safedl.text import one_line
from tui.services.runs import Picture
from tui.widgets.image import half_blocks, has_colours

if TYPE_CHECKING:
    from tui.app import SafedlApp

CAPTION = 2
"""Lines of a caption."""
LEAST = 22
"""Cells that a picture has at least, for its caption."""
GAP = 2
WHY = 40
"""Cells for the reason why a picture cannot be shown."""


class Samples(Widget, can_focus=True):
    """Pictures with captions; arrows and `h l` go to the next and previous one."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right", "move(1)", "next picture"),
        Binding("left", "move(-1)", "previous picture"),
        Binding("l", "move(1)", "Next picture", show=False),
        Binding("h", "move(-1)", "Previous picture", show=False),
    ]
    DEFAULT_CSS = """
    Samples { height: 1fr; }
    """

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.pictures: tuple[Picture, ...] = ()
        self.index = 0
        self._lines: list[Text] = []

    def show(self, pictures: Sequence[Picture]) -> None:
        """Show these pictures, from the first."""
        self.pictures, self.index, self._lines = tuple(pictures), 0, []
        self._draw()

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._draw()

    def action_move(self, pictures: int) -> None:
        """Go to another picture."""
        self.index = max(0, min(self.index + pictures, len(self.pictures) - 1))
        self._draw()

    def _draw(self) -> None:
        width, height = self.size.width, self.size.height - 1
        self.refresh()
        if not self.pictures or width < 4 or height < 2:
            return
        pictures, colours = self.pictures[self.index :], has_colours(self.app)

        def take(lines: list[Text]) -> None:
            self._lines = lines
            self.refresh()

        app = cast("SafedlApp", self.app)
        app.ask(self, "draw", lambda: _beside(pictures, width, height, colours), take, "draw the pictures")

    def render(self) -> Text:
        """Return what has been drawn."""
        if not self.pictures:
            return Text("no pictures", style="dim")
        head = Text(f"picture {self.index + 1} of {len(self.pictures)}   ←/→ others", style="dim", end="")
        return Text("\n", no_wrap=True, overflow="ellipsis").join([head, *self._lines])


def _beside(pictures: Sequence[Picture], width: int, height: int, colours: bool) -> list[Text]:
    """Return as many pictures as fit beside each other, each under its caption; at least one."""
    columns: list[tuple[list[str], list[Text], int]] = []
    used = 0
    for picture in pictures:
        try:
            lines = half_blocks(picture.path, width, height - CAPTION, colours=colours)
        except (OSError, ValueError, SyntaxError) as error:  # Pillow's words for files that are no pictures
            lines = [Text("cannot be shown:"), *(Text(part) for part in textwrap.wrap(one_line(str(error)), WHY))]
        cells = max(LEAST, *(line.cell_len for line in lines))
        if columns and used + cells > width:
            break
        columns.append((textwrap.wrap(one_line(picture.caption), min(cells, width))[:CAPTION], lines, cells))
        used += cells + GAP
    rows = max(len(lines) for _, lines, _ in columns)
    result = []
    for row in range(CAPTION + rows):
        line = Text(no_wrap=True, end="")
        for caption, lines, cells in columns:
            if row < CAPTION:
                part = Text(caption[row] if row < len(caption) else "")
            else:
                part = lines[row - CAPTION].copy() if row - CAPTION < len(lines) else Text()
            part.truncate(cells, pad=True)
            line.append_text(part).append(" " * GAP)
        result.append(line)
    return result
