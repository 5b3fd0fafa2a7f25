"""The Runs pane: everything that has run, narrowed and sorted by the store, and one run's details."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import Static

from safedl.errors import UsageError
from safedl.text import one_line
from tui.panes.details import DetailsBox
from tui.panes.runactions import RunActions
from tui.services import runs as service
from tui.services.ask import why
from tui.services.runs import SORTS, Details, Order, Page
from tui.widgets.filter import FilterBar
from tui.widgets.lines import Lines
from tui.widgets.modal import Option, Picker
from tui.widgets.pane import Box
from tui.widgets.runtable import HEADINGS, RunTable

if TYPE_CHECKING:
    from safedl.store.records import RunRow

SETTLE = 0.08
"""Seconds that the cursor must stand still before a run's files are read."""
NOTHING = "No runs yet. Press 4, then r: pick a profile and run it."

NO_MATCH = "Nothing matches; esc clears."
STATES = "\n\nStates: done, failed, cancelled, skipped, interrupted, running, waiting."


class RunsPane(RunActions):
    """All runs above, one run below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "filter", "filter", key_display="/"),
        Binding("space", "mark", "mark"),
        Binding("s", "sort", "sort"),
        Binding("r", "retry", "retry"),
        Binding("v", "review", "Review the suspects of this scan", show=False),
        Binding("t", "take_home", "Take home its data and its model", show=False),
        Binding("X", "delete", "Delete this run", show=False, key_display="X"),
        Binding("S", "turn", "Turn the order round", show=False, key_display="S"),
        Binding("u", "unmark", "Take all marks away", show=False),
        Binding("y", "copy", "Copy the run's uid", show=False),
        Binding("left_square_bracket", "tab(-1)", "Previous tab", show=False, key_display="["),
        Binding("right_square_bracket", "tab(1)", "Next tab", show=False, key_display="]"),
        Binding("c", "app.go('compare')", "Compare the marked runs", show=False),
        Binding("e", "experiment", "Show its experiment", show=False),
        Binding("f5", "reload", "Read again", show=False),
        Binding("escape", "back", "Back to the list; clear the filter", show=False),
    ]
    DEFAULT_CSS = """
    RunsPane #list-box { height: 2fr; }
    RunsPane #details { height: 3fr; }
    RunsPane #nothing { height: 1fr; padding: 1 2; display: none; }
    RunsPane.-empty RunTable, RunsPane.-empty #details { display: none; }
    RunsPane.-empty #nothing { display: block; }
    """
    HELP = """\
All runs, newest first. Filter: attack:static status:done acc>0.9 -model:cnn words; \
fields contain what you write, metrics compare, - turns a term round.

Marked runs [x] are what Compare compares. Retry goes on with the run's experiment: what is done is kept."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.filter = ""
        self.order = Order()
        self.page = Page([], 0, 0)
        self._problem = ""
        self._put_aside = ""
        """The filter that was in force before a single run was asked for."""
        self._asked: str | None = None
        """The run that was asked for: it is shown though it may be on none of the pages that have been read."""
        self._goes = False
        """Whether the cursor is to go to it."""
        self._seen: object = None
        self._timer: Timer | None = None
        self._loading_more = False
        self._recovers = False
        """Whether drivers that died are yet to be looked for."""

    def compose(self) -> ComposeResult:
        """Filter and table above, details below."""
        memory, self._remembered = self.frame.memory, f"runs filter {self.frame.workspace.root}"
        self.filter = memory.get(self._remembered, "")
        self.order = Order(memory.get("runs sort", "when"), memory.get("runs descending", True))
        with Box(title="Runs", id="list-box"):
            yield FilterBar("attack:static status:done acc>0.9 -model:cnn words", self.filter, id="filter")
            yield RunTable(self.frame.marked, self.frame.clock, id="table")
            yield Static("", id="nothing", markup=False)
        yield DetailsBox(id="details")

    def opened(self) -> None:
        """Read the runs anew, with the filter that somebody else has put aside; then dead drivers are noticed."""
        self.focus_first()
        if self._put_aside and not self.filter:
            bar = self.query_one(FilterBar)
            bar.value, self.filter, self._put_aside, self._asked = self._put_aside, self._put_aside, "", None
            bar.action_leave()
        self.action_reload()
        self._recovers = True

    def _recover(self) -> None:
        workspace = self.frame.workspace

        def recovered(uids: list[str]) -> None:
            if uids:
                left = "1 run was" if len(uids) == 1 else f"{len(uids)} runs were"
                self.frame.say(f"{left} left unfinished by a driver that died: interrupted now, r goes on")
                self.action_reload()

        self.frame.ask(
            self, "recover", lambda: service.recover(workspace), recovered, "look after runs", self._show_problem
        )

    def tick(self) -> None:
        """Read again when a stage has begun or ended."""
        hub = self.frame.hub
        states = [hub.experiments[uid] for uid in sorted(hub.running) if uid in hub.experiments]
        seen = tuple((s.uid, tuple(stage.status for stage in s.stages.values())) for s in states)
        if seen != self._seen:
            first, self._seen = self._seen is None, seen
            if not first:
                self.action_reload()

    def show_run(self, uid: str) -> None:
        """Put the cursor on a run, whatever the filter hides."""
        self._put_aside = self.filter or self._put_aside
        self._asked, self._goes, self.filter = uid, True, ""
        self.query_one(FilterBar).action_clear()
        self.action_reload()

    # --- reading

    def action_reload(self) -> None:
        """Read the runs again, as many as are shown."""
        workspace, filter, order, asked = self.frame.workspace, self.filter, self.order, self._asked
        rows = max(service.PAGE, len(self.page.rows))
        self._loading_more = False  # its answer is dropped
        self.frame.ask(
            self, "page", lambda: service.read_page(workspace, filter, order, rows, asked), self._take,
            "read the runs", self._show_problem,
        )  # fmt: skip

    def _take(self, page: Page) -> None:
        self.page, self._problem = page, ""
        table = self.table
        table.sorted_by = (HEADINGS.get(self.order.by, self.order.by), self.order.descending)
        table.set_rows(page.shown)
        self._show_list(bool(page.rows))
        if page.rows:
            self.focus_laid_out(unless=lambda: self.frame.main.focused is not self)  # as when the filter has it
        elif table.has_focus:  # it is hidden: the filter would take the focus, and keys for letters
            self.focus_first()
        none = NO_MATCH + (STATES if "status:" in self.filter or "state:" in self.filter else "")
        self.query_one("#nothing", Static).update(none if page.total else NOTHING)
        if self._goes:
            self._goes = False
            self._go_to(self._asked)
        if table.cursor == table.count - 1:
            self.on_table_near_end()
        self._tell()
        self._settle()
        if self._recovers:
            self._recovers = False
            self._recover()

    def first(self) -> Widget:
        """Return the list, or where it is empty and hidden the pane itself."""
        return self if self.has_class("-empty") else self.table

    def _show_list(self, there: bool) -> None:
        """Show the list, or where it is empty why; other keys work there."""
        self.set_class(not there, "-empty")
        self.refresh_bindings()

    def _go_to(self, uid: str | None) -> None:
        position = next((i for i, row in enumerate(self.table.rows) if row.record.uid == uid), None)
        if position is None:
            self.frame.say(f"there is no run {uid} any more", severe=True)
        else:
            self.table.cursor = position
            self.table.focus()

    def _show_problem(self, error: Exception) -> None:
        """Say in place what is wrong: a filter that is being typed is no reason for a dialog."""
        self._problem = one_line(why(error))
        if not isinstance(error, UsageError):
            self._problem = f"{self._problem}  (F5 reads again)"
            self._show_list(bool(self.page.rows))
            self.query_one("#nothing", Static).update(f"The runs cannot be read.\n\n{self._problem}")
        self._tell()

    def _tell(self) -> None:
        box = self.query_one("#list-box", Box)
        count = f"{self.page.found:,} of {self.page.total:,}" if self.filter else f"{self.page.total:,}"
        box.title(f"Runs · {self.filter or 'all'}", count)
        marked = f" · {len(self.frame.marked)} marked · c compares, u unmarks" if self.frame.marked else ""
        arrow = "↓" if self.order.descending else "↑"
        self.status = self._problem or f"sorted by {SORTS.get(self.order.by, self.order.by)} {arrow}{marked}"

    def on_table_near_end(self) -> None:
        """Read the next page."""
        rows = self.page.rows
        if self._loading_more or not service.PAGE <= len(rows) < self.page.found:
            return
        self._loading_more = True
        workspace, filter, order = self.frame.workspace, self.filter, self.order

        def take(more: list[RunRow]) -> None:
            self._loading_more = False
            self.page = replace(self.page, rows=[*rows, *more])
            self.table.set_rows(self.page.shown)

        def failed(error: Exception) -> None:
            self._loading_more = False
            self._show_problem(error)

        self.frame.ask(
            self, "page", lambda: service.read_more(workspace, filter, order, rows), take, "read more", failed
        )

    # --- details

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Show the run under the cursor as soon as it stands still."""
        if event.lines is self.table:
            self._settle()

    def _settle(self) -> None:
        if self._timer is not None:
            self._timer.stop()
        self._timer = self.set_timer(SETTLE, self._read_details)

    def _read_details(self) -> None:
        row, box = self.table.current, self.query_one(DetailsBox)
        if row is None:
            if box.row is not None:
                box.show(None, None)
            return
        uid, workspace = row.record.uid, self.frame.workspace
        same = box.details if box.details and box.details.uid == uid else None
        if same is None or box.row != row:  # the row tells more when the run, or its experiment, has ended
            box.show(row, same)

            def take(details: Details) -> None:
                if self.table.current is row:
                    box.show(row, details)

            self.frame.ask(
                self, "details", lambda: service.read_details(workspace, uid), take, f"read the files of run {uid}"
            )

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Go to the details."""
        if event.lines is self.table:
            self.query_one(DetailsBox).focus_tab()

    async def action_tab(self, tabs: int) -> None:
        """Show the next or previous tab of the details."""
        await self.query_one(DetailsBox).move_tab(tabs)

    def action_back(self) -> None:
        """From the details to the list; in the list, clear the filter."""
        if self.filter and (self.table.has_focus or self.has_class("-empty")):
            self.query_one(FilterBar).action_clear()
        self.focus_first()

    # --- the list

    def action_filter(self) -> None:
        """Open the filter."""
        self.query_one(FilterBar).open()

    def on_filter_bar_narrowed(self, event: FilterBar.Narrowed) -> None:
        """Narrow the list."""
        if event.text.strip() == self.filter:
            return
        self.filter, self._put_aside = event.text.strip(), ""
        self.frame.memory.set(self._remembered, self.filter)
        self._begin_anew()

    def on_filter_bar_left(self) -> None:
        """Go back to the list."""
        self.focus_first()

    def action_sort(self) -> None:
        """Choose what orders the list."""
        width = max(map(len, SORTS.values()))
        options = [Option(f"{text.ljust(width)}  {HEADINGS.get(name, '')}", name) for name, text in SORTS.items()]

        def chosen(name: str | None) -> None:
            if name is not None:
                self._sort(Order(name, True if name != self.order.by else not self.order.descending))

        self.frame.push_screen(Picker("Sort by", options), chosen)

    def action_turn(self) -> None:
        """Turn the order round."""
        self._sort(Order(self.order.by, not self.order.descending))

    def _sort(self, order: Order) -> None:
        self.order = order
        self.frame.memory.set("runs sort", order.by)
        self.frame.memory.set("runs descending", order.descending)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Read the first page of another list."""
        self.page, self._asked, self._goes = Page([], 0, self.page.total), None, False
        self.action_reload()

    def action_mark(self) -> None:
        """Mark the run for comparing, or take the mark away, and go on."""
        row = self.table.current
        if row is None:
            return
        self.frame.marked ^= {row.record.uid}
        self.frame.remember_marks()
        self.table.action_move(1)
        self.table.refresh()
        self._tell()

    def action_unmark(self) -> None:
        """Take all marks away."""
        self.frame.marked.clear()
        self.frame.remember_marks()
        self.table.refresh()
        self._tell()
