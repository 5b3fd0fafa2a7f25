"""Suspects of a scan as pictures in rows and columns, a page at a time: only what is in view is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, ClassVar, cast

from rich.cells import cell_len, set_cell_size
from rich.style import Style
from rich.text import Text
from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import Static

from safedl.review import Decision, Suspect
from safedl.text import one_line
from tui.services.review import Findings, Page
from tui.states import look_of_decision, look_of_verdict, sign
from tui.widgets.image import has_colours
from tui.widgets.lines import Lines

if TYPE_CHECKING:
    from tui.app import SafedlApp

CAPTION = 3
"""Lines below a picture."""
LEAST = 18
"""Cells that a suspect takes at least, for its caption."""
GAP = 2
WIDTHS = (10, 18, 24, 32, 48)
"""Cells that a picture is wide at most; small ones are enlarged as often as that goes evenly."""
USUAL = 1
NO_PICTURE = (12, 12)
"""The shape for which room is left where no picture can be read."""
Read = Callable[[int, int, tuple[int, int], bool], Page]
"""Reads a page: its first place, how many, the size of a picture in cells, whether in colours."""


@dataclass(frozen=True)
class Layout:
    """How a page is laid out, in cells and suspects."""

    columns: int
    rows: int
    cell: int
    picture: tuple[int, int]

    @property
    def count(self) -> int:
        """How many suspects a page holds."""
        return self.columns * self.rows


def layout_of(width: int, height: int, shape: tuple[int, int], widest: int) -> Layout:
    """Return the layout for so many cells and pictures of `shape` (rows and columns of pixels)."""
    rows, columns = shape
    wide = max(1, min(columns * max(1, widest // columns), widest, width))
    high = max(1, min(ceil(rows * wide / columns / 2), height - CAPTION))
    cell = min(max(LEAST, wide), width)
    return Layout(max(1, (width + GAP) // (cell + GAP)), max(1, height // (high + CAPTION)), cell, (wide, high))


class SuspectGrid(Lines):
    """Pictures with captions. The cursor walks over all suspects, and the page with the cursor is shown."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l,right", "step(1)", "Next suspect", show=False),
        Binding("h,left", "step(-1)", "Previous suspect", show=False),
        Binding("j,down", "move(1)", "Next row", show=False),
        Binding("k,up", "move(-1)", "Previous row", show=False),
        Binding("g,home", "move_to(0)", "First suspect", show=False),
        Binding("G,end", "move_to(-1)", "Last suspect", show=False, key_display="G"),
        Binding("enter", "choose", "Fill the pane with pictures", show=False),
        Binding("plus", "enlarge(1)", "Larger pictures", show=False, key_display="+"),
        Binding("minus", "enlarge(-1)", "Smaller pictures", show=False, key_display="-"),
    ]
    DEFAULT_CSS = """
    SuspectGrid { overflow-y: hidden; }
    """
    show_cursor = False

    class Walked(Message):
        """The cursor stands on another suspect, or the page has come."""

    class Unreadable(Message):
        """The page cannot be read by `read`."""

        def __init__(self, error: Exception, read: Read) -> None:
            super().__init__()
            self.error, self.read = error, read

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.total = 0
        self.place = 0
        """Where the cursor stands, in the ranked list."""
        self.page = Page(0, {}, ())
        self.shape = NO_PICTURE
        self.found: Findings | None = None
        self.decisions: Mapping[int, Decision] = {}
        self.step_width = USUAL
        self._read: Read | None = None
        self._asked: object = None

    def show(
        self, total: int, shape: tuple[int, int] | None, found: Findings, decisions: Mapping[int, Decision], read: Read
    ) -> None:
        """Show the suspects of a scan, after `clear` those of another one; the cursor stays at its place.

        The page that is shown stays until it is read again: a key pressed meanwhile means the suspect in view.
        """
        if total != self.total:
            self.page = Page(0, {}, ())
        self.total, self.shape, self.found, self.decisions = total, shape or NO_PICTURE, found, decisions
        self._read, self._asked = read, None
        self.go(self.place)

    def clear(self) -> None:
        """Show no suspects."""
        self.total, self.page, self._read = 0, Page(0, {}, ()), None
        self.changed()

    def shows_from(self, read: Read) -> bool:
        """Return whether the pages are read by `read`: what another one says, it says of what was shown before."""
        return self._read is read

    @property
    def current(self) -> Suspect | None:
        """The suspect under the cursor, as soon as it has been read."""
        return self.page.suspects.get(self.place)

    @property
    def layout_now(self) -> Layout:
        """The layout for the present size."""
        return layout_of(max(1, self.size.width), max(1, self.size.height), self.shape, WIDTHS[self.step_width])

    @property
    def shown(self) -> range:
        """The places that are in view."""
        return range(self.page.start, self.page.start + len(self.page.pictures))

    # --- the page

    def go(self, place: int) -> None:
        """Put the cursor on a place and show its page."""
        self.place = max(0, min(place, self.total - 1))
        self._turn()
        self.changed()
        self.post_message(self.Walked())

    def _turn(self) -> None:
        """Read the page with the cursor, unless it is there or on its way."""
        read, layout = self._read, self.layout_now
        if read is None or not self.total or self.size.height < CAPTION + 1:
            return
        start, count, colours = self.place // layout.count * layout.count, layout.count, has_colours(self.app)
        wanted = start, layout, colours
        if wanted == self._asked:
            return
        self._asked = wanted

        def take(page: Page) -> None:
            self.page = page
            self.changed()
            self.post_message(self.Walked())

        def failed(error: Exception) -> None:
            self.post_message(self.Unreadable(error, read))

        app = cast("SafedlApp", self.app)
        app.ask(self, "page", lambda: read(start, count, layout.picture, colours), take, "read the suspects", failed)

    def on_resize(self) -> None:
        """Lay the page out anew."""
        self._turn()
        self.changed()

    # --- painting

    @property
    def count(self) -> int:
        """How many lines the page has."""
        layout = self.layout_now
        return ceil(len(self.page.pictures) / layout.columns) * (layout.picture[1] + CAPTION)

    def line(self, index: int, width: int) -> Text:
        """Return one line across the suspects that stand side by side."""
        layout = self.layout_now
        row, inside = divmod(index, layout.picture[1] + CAPTION)
        line = Text(no_wrap=True, end="")
        first = row * layout.columns
        for number in range(first, min(first + layout.columns, len(self.page.pictures))):
            place = self.page.start + number
            if inside < layout.picture[1]:
                picture = self.page.pictures[number]
                part = picture[inside].copy() if inside < len(picture) else Text()
            else:
                part = self._caption(place, inside - layout.picture[1], layout.cell)
            part.truncate(layout.cell, overflow="ellipsis", pad=True)
            if place == self.place and inside >= layout.picture[1]:
                part.stylize(self._cursor_style())
            line.append_text(part).append(" " * GAP)
        return line

    def _cursor_style(self) -> Style:
        return self.get_component_rich_style("lines--cursor" if self.has_focus else "lines--cursor-blurred")

    def _caption(self, place: int, line: int, width: int) -> Text:
        suspect = self.page.suspects.get(place)
        if suspect is None or self.found is None:
            return Text()
        if line == 0:
            mark = sign("›") if place == self.place else " "
            return _ends(f"{mark}#{suspect.index}", f"{suspect.score:.3f}", width)
        if line == 1:
            proposed = suspect.proposed_label
            name = "?" if proposed is None else self.found.class_name(proposed)
            return Text(" " + _change(self.found.class_name(suspect.given_label), name, width - 1))
        decision = self.decisions.get(suspect.index)
        kind = decision if isinstance(decision, str) else "" if decision is None else "relabel"
        shape = look_of_decision(kind)
        word = self.found.class_name(decision) if isinstance(decision, int) else shape.word
        text = _ends(f" {shape.glyph} {word}", f"g{suspect.group}", width)
        text.stylize(shape.colour, 0, 2)
        return text

    # --- moving

    def action_step(self, suspects: int) -> None:
        """Go to the next or previous suspect."""
        self.go(self.place + suspects)

    def action_move(self, lines: int) -> None:
        """Go to another row."""
        self.go(self.place + lines * self.layout_now.columns)

    def action_move_to(self, index: int) -> None:
        """Go to the first suspect, or the last one."""
        self.go(index if index >= 0 else self.total + index)

    def action_page(self, pages: int) -> None:
        """Go to the next or previous page."""
        self.go(self.place + pages * self.layout_now.count)

    def action_enlarge(self, steps: int) -> None:
        """Show larger pictures, and fewer of them, or smaller ones."""
        self.step_width = max(0, min(self.step_width + steps, len(WIDTHS) - 1))
        self.go(self.place)

    def on_click(self, event: events.Click) -> None:
        """Go to the suspect that was clicked."""
        layout = self.layout_now
        number = event.y // (layout.picture[1] + CAPTION) * layout.columns + event.x // (layout.cell + GAP)
        if self.page.start + number in self.shown:
            self.go(self.page.start + number)


def _ends(left: str, right: str, width: int) -> Text:
    """Return two texts at both ends of a line; the left one gives way."""
    text = Text(left, no_wrap=True, end="")
    text.truncate(max(1, width - len(right) - 1), overflow="ellipsis", pad=True)
    return text.append(f" {right}")


def _change(before: str, after: str, width: int) -> str:
    """Return `before → after`, each cut to what the other one leaves."""
    arrow = sign("→")
    arrow = f" {arrow} " if len(before) + len(after) + 3 <= width else arrow
    room = max(2, width - len(arrow))
    first = max(room - len(after), room // 2)
    return _cut(before, first) + arrow + _cut(after, room - min(first, len(before)))


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 1)]}…"


def _end_of(file: str, width: int) -> str:
    """Return a file's path, without its beginning if it is too long: what tells files apart is at the end."""
    if cell_len(file) <= width:
        return file
    return f" …{set_cell_size(file[::-1], width - 2)[::-1].lstrip()}"


def _facts(found: Findings) -> list[str]:
    """Return what can be said of a scan in a few words each."""
    rate = found.false_alarm_rate
    return [
        *([f"target class {', '.join(found.targets)}"] if found.targets else []),
        f"{found.suspects:,} suspects",
        *([f"false-alarm rate {rate:.3g}"] if rate is not None else []),
    ]


def verdict_text(found: Findings) -> Text:
    """Return verdict and evidence, then what the scan could not have seen."""
    shape = look_of_verdict(found.verdict)
    text = Text().append(f"{shape.glyph} {shape.word}", style=f"bold {shape.colour}")
    text.append(f" · {' · '.join(_facts(found))}")
    for sentence in found.evidence:
        text.append(f"\n· {sentence}")
    if found.limits:
        text.append("\nWhat this scan could not have seen:", style="dim")
    for sentence in found.limits:
        text.append(f"\n– {sentence}", style="dim")
    return text


class About(Static):
    """What is known of a suspect. It grows for those that many detectors found, and then stays so: what stands above
    it would jump otherwise."""

    DEFAULT_CSS = "About { height: 2; }"

    def __init__(self, *, id: str) -> None:
        super().__init__("", markup=False, id=id)
        self._lines = 2

    def show(self, suspect: Suspect | None, found: Findings) -> None:
        """Show the sample in one line, and its detectors in as many as they need."""
        if suspect is None:
            self.update("")
            return
        proposed, width = suspect.proposed_label, self.size.width or self.app.size.width  # not laid out yet
        looks = f"looks like {found.class_name(proposed)}" if proposed is not None else "looks like no other class"
        head = Text(one_line(f"#{suspect.index} given {found.class_name(suspect.given_label)}, {looks}"))
        if suspect.file:
            head.append(_end_of(f" · {one_line(suspect.file)}", max(LEAST, width - head.cell_len)))
        head.truncate(width, overflow="ellipsis")
        rest = Text(one_line(f"group {suspect.group} · found by {', '.join(suspect.detectors)}"))
        lines = [head, *rest.wrap(self.app.console, width)]
        if len(lines) > self._lines:
            self.styles.height = self._lines = len(lines)
        self.update(Text("\n").join(lines))
