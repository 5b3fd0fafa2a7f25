"""The frame: panes behind number keys, what runs, questions, themes, help."""

from __future__ import annotations

import gc
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, TypeVar

from textual import work
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.dom import DOMNode
from textual.filter import Monochrome, NoColor
from textual.reactive import Reactive
from textual.screen import Screen
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Static

from safedl.errors import SafedlError
from safedl.text import one_line
from safedl.workspace import Workspace
from tui import theme as themes
from tui.panes import PANES
from tui.services import clipboard
from tui.services.ask import ask, in_thread
from tui.services.follow import ExperimentState, Hub
from tui.services.persist import Memory, default_file
from tui.states import look
from tui.widgets.bars import Header, Hints, Status, Tab
from tui.widgets.pane import Pane

if TYPE_CHECKING:
    from tui.services.drafts import Draft
    from tui.widgets.help import Key
    from tui.widgets.modal import Dialog

T = TypeVar("T")
PERIOD = 0.2
"""Seconds between repaints of what runs."""


FIRST = "run"
"""The pane that is shown first."""


class SafedlApp(App[None]):
    """The app. Panes reach `workspace`, `hub`, `memory`, `marked`, `ask`, `copy` and `go` through `Pane.frame`."""

    TITLE = "safedl"
    CSS_PATH = "app.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(p.key, f"go({p.name!r})", f"Go to {p.title}", show=False) for p in PANES),
        Binding("colon", "command_palette", "Commands", show=False, key_display=":"),
        Binding("ctrl+p", "command_palette", "Commands", show=False),
        Binding("question_mark,f1", "help", "Help", show=False),
        Binding("ctrl+t", "next_theme", "Next theme", show=False),
        Binding("ctrl+n", "app.scan", "Scan data of your own", show=False),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True),
    ]

    theme: Reactive[str] = Reactive(themes.DARK.name, init=False)
    """The theme's name; with `init`, Textual would work out all styles twice before the first paint."""

    def __init__(
        self,
        workspace: Workspace,
        *,
        memory: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Open a workspace; `memory` is the file of remembered settings, `clock` tells the time."""
        super().__init__()
        self.HORIZONTAL_BREAKPOINTS = [(0, "-tiny"), (60, "-narrow"), (100, "-wide")]
        self.VERTICAL_BREAKPOINTS = [(0, "-low"), (16, "-flat"), (20, "-short"), (32, "-tall")]
        self.workspace, self.clock = workspace, clock
        self.memory = Memory(memory or default_file())
        self.hub = Hub(workspace, clock)
        self.specs = {p.name: p for p in PANES}
        self.marked: set[str] = set(self.memory.get(f"marked {workspace.root}", []))
        """Uids of the runs that are marked, for comparing."""
        self.draft: Draft | None = None
        """The profile that the panes show: `tui.services.drafts.current` opens it."""
        self._reading = self._unreadable = self._asks_to_quit = False
        self._news: deque[Dialog] = deque()
        self._prepare_theme()

    def _prepare_theme(self) -> None:
        """Know our themes, and use the remembered one from the first paint on, if it is ours."""
        for theme in themes.OWN:
            self.register_theme(theme)
        wanted = self._wanted_theme
        if wanted in {theme.name for theme in themes.OWN}:
            self.set_reactive(SafedlApp.theme, wanted)
        self.stylesheet.set_variables(self.get_css_variables())
        self.set_class(self.current_theme.dark, "-dark-mode")
        self.set_class(not self.current_theme.dark, "-light-mode")

    @property
    def _wanted_theme(self) -> str:
        remembered: str = self.memory.get("theme", themes.DARK.name)
        return remembered if remembered in self.available_themes else themes.DARK.name

    def compose(self) -> ComposeResult:
        """Lay header, panes, status and hints above each other."""
        with Vertical(id="frame"):
            yield Header([Tab(p.key, p.name, p.title) for p in self.specs.values()])
            with ContentSwitcher(id="panes", initial=FIRST):
                yield self.specs[FIRST].make()
            yield Status()
            yield Hints()
        yield Static("safedl needs a terminal of at least 60 x 16 cells.\n\nEnlarge it, or press ctrl+q.", id="small")

    async def on_mount(self) -> None:
        """Open the first pane, then begin to follow what runs."""
        self._show_theme(self._wanted_theme)
        await self.action_go(FIRST)
        self.set_interval(PERIOD, self.read)
        self.set_interval(2.0, self.memory.save)
        self.set_timer(0.5, self._warm_up)
        self.call_after_refresh(self.read)

    @work
    async def _warm_up(self) -> None:
        """Load what is needed later, and put the first question to the store: it takes longer than the next ones."""
        for module in ("safedl.store.queries", *(spec.where.partition(":")[0] for spec in PANES)):
            await in_thread(partial(import_module, module))
        from tui.services import runs

        with suppress(SafedlError, OSError):  # whoever opens the list is told
            await in_thread(partial(runs.read_page, self.workspace, "", runs.Order(), rows=1))
        if not gc.isenabled():  # the start was without it; what has been loaded stays
            gc.freeze()
            gc.enable()

    # --- panes

    @property
    def pane(self) -> Pane | None:
        """The pane in front."""
        switcher = self.main.query_one(ContentSwitcher)
        return switcher.get_child_by_id(switcher.current, Pane) if switcher.current else None

    @property
    def main(self) -> Screen[object]:
        """The screen with the panes, whatever dialog stands before it."""
        return self.screen_stack[0]

    async def action_go(self, name: str) -> None:
        """Bring a pane to the front; it is built at its first visit."""
        switcher = self.main.query_one(ContentSwitcher)
        if not any(child.id == name for child in switcher.children):
            await switcher.add_content(self.specs[name].make())  # not seen before it is in front: laid out once
        if switcher.current != name:
            self.main.set_focus(None)  # else what is hidden takes the focus away, after the new pane has given it
        switcher.current = name
        pane = self.pane
        assert pane is not None
        pane.opened()
        self.call_after_refresh(self.keep_focus)
        self.show_status()
        self._show_header()

    def keep_focus(self) -> None:
        """Keep the focus in the pane in front, so that its keys work."""
        if self.pane is not None and self.main.query_one("#frame").display:  # else the terminal is too small
            self.pane.keep_focus()

    async def open_run(self, uid: str) -> None:
        """Show a run in the Runs pane."""
        from tui.panes.runs import RunsPane

        await self.action_go("runs")
        self.main.query_one(RunsPane).show_run(uid)

    async def open_experiment(self, uid: str, *, resume: bool = False) -> None:
        """Show an experiment in the Run pane, and go on with it if asked to."""
        from tui.panes.run import RunPane

        await self.action_go("run")
        pane = self.main.query_one(RunPane)
        pane.show_experiment(uid)
        if resume:
            await self.read()
            pane.action_resume()

    async def open_review(self, uid: str) -> None:
        """Show a scan's suspects in the Review pane."""
        from tui.panes.review import ReviewPane

        await self.action_go("review")
        self.main.query_one(ReviewPane).show_scan(uid)

    def action_scan(self) -> None:
        """Ask what to scan, and watch the scan in the Run pane."""
        from tui.panes.scan import ask_for_scan

        ask_for_scan(self)

    def show_status(self) -> None:
        """Show what the pane in front has to say."""
        pane = self.pane
        self.main.query_one(Status).show(pane.status if pane else "")

    def _show_header(self) -> None:
        switcher = self.main.query_one(ContentSwitcher)
        self.main.query_one(Header).show(switcher.current or "", len(self.hub.running))

    async def on_header_picked(self, event: Header.Picked) -> None:
        """Go to the pane that was clicked."""
        await self.action_go(event.pane)

    # --- what runs

    async def read(self) -> None:
        """Read what drivers have written, unless that is going on, and let the pane in front repaint."""
        if self._reading:
            return
        self._reading = True
        try:
            ended = self.hub.apply(await in_thread(self.hub.read))
        except (OSError, SafedlError) as error:
            if self.is_running:
                if not self._unreadable:  # once, not five times a second
                    self._unreadable = True
                    self.show_error(error, "read what runs")
                self._tell_next()  # it may have had to wait for another dialog
            return
        finally:
            self._reading = False
        self._unreadable = False
        if not self.is_running:
            return  # the app is being left
        for state in ended:
            self._tell_end(state)
        self._show_header()
        self._tell_next()
        if self.pane is not None and len(self.screen_stack) == 1:
            self.pane.tick()
            self.keep_focus()

    def _tell_end(self, state: ExperimentState) -> None:
        shape = look(state.state)
        self.bell()
        self.say(f"{shape.glyph} {state.name or state.uid}: {shape.word}", severe=state.state != "completed")

    # --- what panes use

    def ask(
        self,
        node: DOMNode,
        group: str,
        question: Callable[[], T],
        then: Callable[[T], None],
        doing: str,
        failed: Callable[[Exception], None] | None = None,
    ) -> None:
        """Answer `question` in a thread, then call `then`; an error opens a dialog: could not `doing`, why, what next.

        A later question of the same node and group replaces an earlier one.
        """
        ask(node, group, question, then, failed or partial(self.show_error, doing=doing))

    def show_error(self, error: Exception, doing: str) -> None:
        """Say what could not be done, why, and what to do next."""
        from tui.widgets.modal import error_dialog

        if len(self.screen_stack) > 1:
            self.say(f"could not {doing}", severe=True)
        self.tell(error_dialog(error, doing))

    def tell(self, news: Dialog) -> None:
        """Open a dialog that comes when it comes, once no other is open: it would take the keys meant for that."""
        self._news.append(news)
        self._tell_next()

    def _tell_next(self) -> None:
        if self._news and len(self.screen_stack) == 1:
            self.push_screen(self._news.popleft())

    def say(self, text: str, *, severe: bool = False) -> None:
        """Show a line for a few seconds."""
        self.notify(one_line(text), severity="error" if severe else "information", markup=False, timeout=4)

    def copy(self, text: str) -> None:
        """Copy to the clipboard of the terminal, through tmux too; too much goes into a file."""
        if len(text.encode()) > clipboard.LARGEST:
            self.say(f"too long for a clipboard, so written to {clipboard.copy_to_file(text)}")
            return
        if not clipboard.copy_by_tmux(text):
            self.copy_to_clipboard(text)
        first = text.splitlines()[0] if text else ""
        self.say(f"copied {first[:40]}{'…' if len(text) > len(first[:40]) else ''}")

    def remember_marks(self) -> None:
        """Keep the marks for the next start."""
        self.memory.set(f"marked {self.workspace.root}", sorted(self.marked))

    # --- commands, help, themes, quitting

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        """Offer every key that works here as a command, then the themes."""
        from tui.widgets.help import keys_of

        for key in keys_of(screen):
            yield SystemCommand(key.description, f"key {key.display}", partial(self._press, key))
        for name in sorted(self.available_themes):
            yield SystemCommand(f"Theme {name}", "colours", partial(self._use_theme, name))

    def _press(self, key: Key) -> None:
        self.call_later(self.run_action, key.action, key.node)

    def action_help(self) -> None:
        """Show what this place is for and which keys work here."""
        from tui.widgets.help import Help, keys_of

        focused = self.screen.focused
        nodes: list[DOMNode] = list(focused.ancestors_with_self) if focused else []
        text = next((node.HELP for node in nodes if isinstance(node, Widget) and node.HELP), None)
        title = self.specs[self.pane.id or ""].title if self.pane else "safedl"
        text = text or (self.pane.HELP if self.pane else "")

        def press(key: Key | None) -> None:
            if key is not None:
                self._press(key)

        self.push_screen(Help(title, (text or "").strip(), keys_of(self.screen)), press)

    def action_next_theme(self) -> None:
        """Use the next theme."""
        names = themes.NAMES
        place = names.index(self.theme) if self.theme in names else -1
        self._use_theme(names[(place + 1) % len(names)])
        self.say(f"theme {self.theme}")

    def _use_theme(self, name: str) -> None:
        self._show_theme(name)
        self.memory.set("theme", name)

    def _show_theme(self, name: str) -> None:
        self.theme = name
        if self.no_color:  # greys for our colours; the terminal's own would all become black, so they are left out
            wanted = NoColor() if self.native_ansi_color else Monochrome()
            self._filters[:] = [wanted if isinstance(f, NoColor | Monochrome) else f for f in self._filters]

    async def action_quit(self) -> None:
        """Leave; ask first where changes would be lost, then while something runs, or is being started."""
        if self._asks_to_quit:
            return
        self._asks_to_quit = True
        if self.draft is None:  # and nothing need be loaded
            self._quit_what_runs()
            return
        from tui.panes.editing import before_changes_are_lost

        before_changes_are_lost(self, "leave", self._quit_what_runs, partial(self._quit_as_chosen, None))

    def _quit_what_runs(self) -> None:
        from tui.panes.start import StartMixin
        from tui.widgets.modal import Choice, Dialog

        starting = [pane.starting for pane in self.main.query(StartMixin) if pane.starting]
        if not self.hub.running and not starting:
            self._leave(None)
            return
        names = [self.hub.experiments[uid] for uid in sorted(self.hub.running) if uid in self.hub.experiments]
        lines = [f"{s.name or s.uid}: {s.finished} of {len(s.stages)} stages" for s in names] + starting
        choices = (Choice("d", "detach: leave, everything keeps running", "detach"),
                   Choice("s", "stop: ask all to stop, and leave", "stop"))  # fmt: skip
        heading = f"{len(lines)} experiment{'s' * (len(lines) != 1)} {'running or starting' if starting else 'running'}"
        self.push_screen(Dialog(heading, "\n".join(lines), choices, safe="stay"), self._quit_as_chosen)

    def _quit_as_chosen(self, choice: str | None) -> None:
        self._asks_to_quit = False

        def stop() -> None:
            self.workspace.stop_starting()
            for uid in self.hub.running:
                self.workspace.cancel(uid)

        if choice == "stop":
            self.ask(self.main, "stop", stop, self._leave, "stop what runs")
        elif choice is not None:
            self._leave(None)

    def _leave(self, _: None) -> None:
        self.memory.save()
        self.exit()
