"""What all panes share: boxes, one of which can fill the pane, and a sentence in the status line."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.reactive import reactive
from textual.widget import Widget

from safedl.text import one_line

if TYPE_CHECKING:
    from tui.app import SafedlApp


class Box(Vertical):
    """A frame with a title; its frame changes while something inside has the focus."""

    DEFAULT_CSS = """
    Box { border: round $surface-lighten-2; border-title-color: $text-muted; border-subtitle-color: $text-muted; }
    Box:focus-within { border: heavy $accent; border-title-color: $text; border-title-style: bold; }
    """

    def __init__(self, *children: Widget, title: str = "", id: str | None = None, classes: str | None = None) -> None:
        super().__init__(*children, id=id, classes=classes)
        self._titles = ("", "")
        self.title(title)

    def title(self, text: str, note: str = "") -> None:
        """Set the title, and a note at the lower edge."""
        if (text, note) != self._titles:  # setting a title paints the whole box
            self._titles = text, note
            self.border_title = Text(one_line(text))
            self.border_subtitle = Text(one_line(note))


class Pane(Vertical):
    """One view of the app. Subclasses compose boxes, give BINDINGS, and override `opened` and `tick`."""

    DEFAULT_CSS = """
    Pane .row { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("z", "zoom", "Zoom", show=False)]
    HELP: ClassVar[str] = ""
    """What the pane is for, in a few lines: shown above its keys."""

    status: reactive[str] = reactive("", init=False)
    """A sentence for the status line."""
    _focused: Widget | None = None
    """What had the focus last."""
    _ran: frozenset[str] = frozenset()
    """The experiments that ran when `an_experiment_ended` was asked last."""

    @property
    def frame(self) -> SafedlApp:
        """The app that the pane stands in: workspace, followed experiments, remembered settings, questions."""
        return cast("SafedlApp", self.app)

    def opened(self) -> None:
        """The pane was brought to the front: read what may have changed, focus what comes first."""

    def tick(self) -> None:
        """Five times a second while the pane is in front: repaint what has changed."""

    def an_experiment_ended(self) -> bool:
        """Return whether an experiment has ended since this was asked last: there are new results to read."""
        before, self._ran = self._ran, self.frame.hub.running
        return bool(before - self._ran)

    def first(self) -> Widget:
        """Return what gets the focus where nothing else has it: a list that is shown, else the pane itself."""
        return self

    def focus_first(self) -> None:
        """Give the focus to what comes first."""
        first = self.first()
        self.can_focus = first is self  # else `tab` would stop where nothing shows the focus
        self.frame.main.set_focus(first)  # at once: a list that has asked for the focus already gets it afterwards

    def keep_focus(self) -> None:
        """Where nothing that is shown here has the focus, give it to what had it last, else to what comes first."""
        focused = self.frame.main.focused
        if focused is not self and self._has_in_view(focused):
            self._focused = focused
            self.can_focus = False
        elif focused is not self and self._has_in_view(self._focused):
            self.frame.main.set_focus(self._focused)
        else:
            self.focus_first()

    def focus_laid_out(self, unless: Callable[[], bool] = lambda: False) -> None:
        """Give the focus to what comes first, `unless` something holds or another pane is in front.

        That is asked when what has just been shown or hidden is laid out, since what is hidden then loses the focus;
        and the focus is set at once, so that it comes between no key and the focus that the key asked for.
        """

        def give() -> None:
            if self.frame.pane is self and not unless():
                self.focus_first()

        self.call_after_refresh(self.frame.call_later, give)

    def _has_in_view(self, widget: Widget | None) -> bool:
        chain = widget.ancestors_with_self if widget is not None else []
        return self in chain and all(node.display for node in chain)

    def watch_status(self) -> None:
        """Pass the sentence on."""
        self.frame.show_status()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer to zoom where there are boxes."""
        return action != "zoom" or any(self._has_in_view(box) for box in self.query(Box))

    def action_zoom(self) -> None:
        """Let the box with the focus fill the pane, or show all boxes again."""
        boxes = list(self.query(Box))
        focused = next((b for b in boxes if self.screen.focused in b.walk_children() or b.has_focus), None)
        if focused is None and not self.has_class("zoomed"):
            return  # where a pane has nothing to show, its boxes are hidden
        zoomed = None if self.has_class("zoomed") else focused
        self.set_class(zoomed is not None, "zoomed")
        for box in boxes:  # None leaves it to the style sheet, which may hide a box
            box.styles.display = None if zoomed in (None, box) else "none"
            box.set_class(box is zoomed, "zoomed-box")
        groups = {node for box in boxes for node in box.ancestors if node is not self and self in node.ancestors}
        for group in groups:  # rows and columns of boxes
            group.styles.display = None if zoomed is None or zoomed in group.walk_children() else "none"
            group.set_class(zoomed is not None, "zoomed-box")
