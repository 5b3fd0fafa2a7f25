"""The Review pane: what a scan found, its suspects as pictures, and a decision about each by a key."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, ClassVar, TypeVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widgets import Static

from safedl.review import DROP, KEEP, Decision, Suspect
from safedl.text import one_line
from tui.panes.takeout import ask_for_export
from tui.services import review as service
from tui.services.review import Notebook, Scan
from tui.widgets.modal import Option, Picker
from tui.widgets.pane import Box, Pane
from tui.widgets.scroll import Scroll
from tui.widgets.suspects import About, SuspectGrid, verdict_text

if TYPE_CHECKING:
    from safedl.store.records import RunRow

NOTHING = """\
Nothing has been scanned in this workspace yet.

A scan looks for poison in data that you were sent, or in a model that you downloaded. No attack is simulated: \
suspects are taken as they are. What it finds is shown here, and you decide sample by sample.

  s   scan data of your own"""
T = TypeVar("T")


class ReviewPane(Pane):
    """The verdict above, the suspects below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "decide('keep')", "keep"),
        Binding("d", "decide('drop')", "drop"),
        Binding("r", "relabel", "relabel"),
        Binding("c", "group", "group"),
        Binding("n", "next", "next"),
        Binding("s", "app.scan", "Scan data of your own"),
        Binding("x", "decide('drop')", "drop", show=False),
        Binding("R", "choose_class", "Relabel to a class that you choose", show=False, key_display="R"),
        Binding("u", "undo", "Take the last decision back", show=False),
        Binding("backspace", "decide('')", "Make the suspect undecided again", show=False),
        Binding("t", "take_home", "Take home the data without suspects, and the model", show=False),
        Binding("o", "open", "Open another scan", show=False),
        Binding("e", "show_run", "Show the scan among the runs", show=False),
        Binding("y", "copy", "Copy the scan's uid", show=False),
        Binding("f5", "reload", "Read again", show=False),
        Binding("escape", "back", "One suspect only; show all boxes again; back to the pictures", show=False),
    ]
    DEFAULT_CSS = """
    ReviewPane #verdict-box { height: 5; }
    ReviewPane #suspects-box { height: 1fr; }
    ReviewPane #message, ReviewPane #nothing { height: 1fr; padding: 1 2; display: none; }
    ReviewPane.-silent SuspectGrid, ReviewPane.-silent #about { display: none; }
    ReviewPane.-silent #message, ReviewPane.-empty #nothing { display: block; }
    ReviewPane.-empty Box { display: none; }
    """
    HELP = """\
What a scan suspects. Each picture has its position in the data, a score (1 is the worst), the label that it was given \
and the one that it looks like, your decision, and its group: samples that were found together.

c lets the next decision hold for the whole group. Decisions are kept at once. t takes the data home, without \
what was dropped or is undecided."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.scan: Scan | None = None
        self.whole_group = False
        self._notebooks: dict[str, Notebook] = {}  # all that were opened: some may hold decisions to be written yet
        self._wanted: str | None = None
        self._stamp: object = None  # when the decisions that are shown were written
        self._looking = False  # whether the list is searched: a decision would be about another suspect than meant

    def compose(self) -> ComposeResult:
        """The verdict above, the suspects below."""
        yield Static(NOTHING, id="nothing", markup=False)
        with Box(title="Scan", id="verdict-box"), Scroll(id="findings"):
            yield Static("", id="verdict", markup=False)
        with Box(title="Suspects", id="suspects-box"):
            yield SuspectGrid(id="grid")
            yield About(id="about")
            yield Static("", id="message", markup=False)

    @property
    def grid(self) -> SuspectGrid:
        """The pictures."""
        return self.query_one(SuspectGrid)

    @property
    def notebook(self) -> Notebook | None:
        """The decisions about the scan that is shown."""
        return self._notebooks[self.scan.uid] if self.scan is not None else None

    def _shows(self, uid: str) -> bool:
        return self.scan is not None and self.scan.uid == uid

    def opened(self) -> None:
        """Show the scan that was shown, else the newest one."""
        self.grid.focus()
        self.action_reload()

    def tick(self) -> None:
        """Show the first scan as soon as it has ended, and what the command line decides meanwhile."""
        if self.an_experiment_ended() and self.scan is None:
            self.action_reload()
        if self.scan is not None and self._stamp != (stamp := service.stamp(self.frame.workspace, self.scan.uid)):
            self._stamp = stamp
            self._compare(self.scan.uid, stamp)

    def _compare(self, uid: str, stamp: object) -> None:
        """Read the decisions about a scan; show them if they are not those that were made here."""
        notebook, changes = self._notebooks[uid], self._notebooks[uid].changes

        def take(decisions: Mapping[int, Decision]) -> None:
            mine = notebook.unwritten or notebook.changes != changes or notebook.values == decisions
            if self._shows(uid) and not mine and stamp == service.stamp(self.frame.workspace, uid):
                self.action_reload()

        self.frame.ask(
            self, "compare", partial(service.read_decisions, self.frame.workspace, uid), take, "read the decisions"
        )

    def on_unmount(self) -> None:
        """Record what has been decided last; the app is being left."""
        service.write_all(self._notebooks.values())  # nobody is there any more to be told what fails

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer decisions where there are suspects, and what concerns a scan where there is one."""
        if action in ("decide", "relabel", "group", "next", "choose_class"):
            return self.grid.total > 0
        if action in ("undo", "take_home", "show_run", "copy", "open"):
            return not self.has_class("-empty")
        return super().check_action(action, parameters)

    # --- reading

    def show_scan(self, uid: str) -> None:
        """Show a scan from its first suspect on."""
        self._wanted = uid
        self.action_reload()

    def action_reload(self) -> None:
        """Read the scan again."""
        workspace, uid, notebooks = self.frame.workspace, self._wanted, list(self._notebooks.values())
        changes = {of: book.changes for of, book in self._notebooks.items()}

        def read() -> Scan | None:
            service.write_all(notebooks)  # who decided has been told what failed, and it is tried again
            if uid is not None:
                return service.open_scan(workspace, uid)
            newest = service.newest_scans(workspace, 1)
            return service.open_scan(workspace, newest[0].record.uid) if newest else None

        self.frame.ask(self, "scan", read, partial(self._take, changes=changes), "read the scan", self._show_problem)

    def _take(self, scan: Scan | None, changes: Mapping[str, int]) -> None:
        """Show a scan; `changes` says how often each notebook had changed before the scan was read."""
        self.set_class(scan is None, "-empty")
        self.refresh_bindings()
        if scan is None:
            self.status = "nothing has been scanned yet"
            self.call_after_refresh(self.frame.keep_focus)  # the pictures had it, and are hidden now
            return
        notebook = self._notebooks.get(scan.uid)
        # a notebook that is kept still knows what to take back, and it is newer than a file read before its last change
        if notebook is None or not (
            notebook.unwritten or notebook.changes != changes.get(scan.uid) or notebook.values == scan.decisions
        ):
            notebook = self._notebooks[scan.uid] = service.open_notebook(self.frame.workspace, scan)
        if not self._shows(scan.uid):
            self.grid.clear()
            self.grid.place, self.whole_group = 0, False
        self.scan, self._wanted = scan, scan.uid
        found = scan.findings
        verdict, *reasons = verdict_text(found).split("\n")
        self.query_one("#verdict-box", Box).title(verdict.plain, f"{scan.title} · {scan.uid}")
        self.query_one("#verdict", Static).update(Text("\n").join(reasons))
        self._say_instead("" if found.suspects else "No suspects: there is nothing to decide.")
        read = partial(service.read_page, self.frame.workspace, scan)
        self.grid.show(found.suspects, scan.shape, found, notebook.values, read)
        self._tell()

    def _show_problem(self, error: Exception) -> None:
        """Say in place what cannot be read."""
        self.remove_class("-empty")
        self.grid.clear()
        self.refresh_bindings()
        self._say_instead(f"The scan cannot be read.\n\n{one_line(str(error))}\n\nF5 reads again, o opens another one.")

    def _say_instead(self, message: str) -> None:
        """Show a message instead of suspects, or the suspects."""
        self.query_one("#message", Static).update(message)
        self.set_class(bool(message), "-silent")

    def _tell(self) -> None:
        """Say where the cursor stands and what has been decided."""
        if self.scan is None or self.notebook is None:
            return
        grid, found, notebook = self.grid, self.scan.findings, self.notebook
        shown, total = grid.shown, grid.total
        place = f"{shown.start + 1:,}–{shown.stop:,} of {total:,}" if shown else f"{total:,}"
        group = f" · WHOLE GROUP {grid.current.group}" if self.whole_group and grid.current else ""
        keys = "+ - size   z zoom   u undo" if total else ""
        self.query_one("#suspects-box", Box).title(f"Suspects · {place}{group}", keys)
        self.query_one(About).show(grid.current, found)
        unwritten = next((uid for uid, other in self._notebooks.items() if other.problem), None)
        if notebook.problem:
            self.status = f"NOT WRITTEN: {one_line(notebook.problem)}"
        elif unwritten is not None:
            self.status = f"NOT WRITTEN for {unwritten}, F5 tries again: {one_line(self._notebooks[unwritten].problem)}"
        elif self.whole_group:
            self.status = "the next decision holds for the whole group; c or esc: for one suspect only"
        elif not total:
            self.status = "nothing to decide"
        else:
            counts = ", ".join(f"{n:,} {word}" for word, n in notebook.counts().items())
            left = max(0, total - len(notebook.values))
            undecided = f"{left:,} undecided, dropped on export" if left else "none undecided"
            self.status = f"{counts} · {undecided}"

    def on_suspect_grid_unreadable(self, event: SuspectGrid.Unreadable) -> None:
        """Say in place why there are no suspects, unless they were read again meanwhile."""
        if self.grid.shows_from(event.read):
            self._show_problem(event.error)

    def on_suspect_grid_walked(self) -> None:
        """Say what is known of the suspect under the cursor."""
        self._tell()

    # --- deciding

    def action_decide(self, decision: str) -> None:
        """Keep or drop the suspect under the cursor, or its whole group; nothing makes it undecided again."""
        self._decide(lambda suspect: decision or None, {KEEP: "kept", DROP: "dropped"}.get(decision, "undecided"))

    def action_relabel(self) -> None:
        """Give the suspect the class that it looks like; where none is known, ask for one."""
        suspect = self.grid.current
        if suspect is not None and suspect.proposed_label is None and not self.whole_group:
            self.action_choose_class()
        elif suspect is not None:
            self._decide(lambda s: s.proposed_label, "relabelled", skip_none=True)

    def action_choose_class(self) -> None:
        """Ask for the class that the suspect, or its whole group, really belongs to."""
        if self.scan is None or self.grid.current is None:
            return
        names = self.scan.findings.classes
        options = [Option(one_line(name), str(label)) for label, name in enumerate(names)]

        def chosen(label: str | None) -> None:
            if label is not None:
                self._decide(lambda suspect: int(label), f"relabelled to {names[int(label)]}")

        self.frame.push_screen(Picker(f"#{self.grid.current.index} really is", options), chosen)

    def _decide(self, choose: Callable[[Suspect], Decision | None], word: str, *, skip_none: bool = False) -> None:
        """Decide about the suspect under the cursor and go on, or about its group; `word` says what then holds."""
        scan, suspect = self.scan, self.grid.current
        if scan is None or suspect is None or self._looking:
            return
        if not self.whole_group:
            self._note(scan.uid, {suspect.index: choose(suspect)}, self.grid.place)
            self.grid.action_step(1)
            return
        workspace, uid, group, place = self.frame.workspace, scan.uid, suspect.group, self.grid.place

        def take(members: list[Suspect]) -> None:
            changes = {s.index: choose(s) for s in members}
            changes = {index: d for index, d in changes.items() if d is not None or not skip_none}
            if self._shows(uid):
                self.whole_group = False
            self.frame.say(f"group {group}: {self._notebooks[uid].told(changes, word, len(members))}")
            self._note(uid, changes, place)
            if self._shows(uid):
                self._go_next()

        self._look(lambda: service.members(workspace, uid, group), take)

    def _look(self, question: Callable[[], T], then: Callable[[T], None]) -> None:
        """Search the list of suspects, one search at a time; another scan may be shown when it ends."""
        self._looking = True

        def found(answer: T) -> None:
            self._looking = False
            then(answer)

        def failed(error: Exception) -> None:
            self._looking = False
            self.frame.show_error(error, "read the suspects")

        self.frame.ask(self, "look", question, found, "read the suspects", failed)

    def _note(self, uid: str, changes: Mapping[int, Decision | None], place: int) -> None:
        """Take decisions about a scan down, show them, and record them."""
        self._notebooks[uid].set(changes, place)
        self._write(self._notebooks[uid])

    def _write(self, notebook: Notebook) -> None:
        others = [other for other in self._notebooks.values() if other is not notebook]
        self.grid.changed()

        def write() -> None:
            notebook.write()
            service.write_all(others)

        def failed(error: Exception) -> None:
            self._tell()
            self.frame.show_error(error, "write the decision")

        self.frame.ask(self, "write", write, lambda _: self._tell(), "write the decision", failed)
        self._tell()

    def action_undo(self) -> None:
        """Take the last decision of this session back, and go to its suspect."""
        notebook = None if self._looking else self.notebook  # what is taken back would be the step before the search
        place = notebook.undo() if notebook else None
        if notebook is None or place is None:
            self.frame.say("nothing to take back")
            return
        self.frame.clear_notifications()  # they told of what holds no more
        self._write(notebook)
        self.grid.go(place)

    def action_group(self) -> None:
        """Let the next decision hold for the whole group, or for one suspect only."""
        self.whole_group = not self.whole_group
        self._tell()

    def action_back(self) -> None:
        """Decide about one suspect only; then show all boxes again; go to the pictures."""
        if not self.whole_group and self.has_class("zoomed"):
            self.action_zoom()
        self.whole_group = False
        self.grid.focus()
        self._tell()

    # --- moving and opening

    def on_lines_chosen(self) -> None:
        """Let the pictures fill the pane."""
        if not self.has_class("zoomed"):
            self.action_zoom()

    def action_next(self) -> None:
        """Go to the next suspect that nobody decided about."""
        if not self._looking:  # else it would take the place of the search, and of the decision that waits for it
            self._go_next()

    def _go_next(self) -> None:
        if self.scan is None or self.notebook is None:
            return
        workspace, uid, place = self.frame.workspace, self.scan.uid, self.grid.place
        decided = frozenset(self.notebook.values)

        def take(found: int | None) -> None:
            if not self._shows(uid):
                return
            if found is None:
                self.frame.say("all suspects are decided")
            else:
                self.grid.go(found)

        self._look(lambda: service.next_undecided(workspace, uid, decided, place), take)

    def action_open(self) -> None:
        """Choose another scan."""

        def show(rows: list[RunRow]) -> None:
            options = [Option(one_line(f"{r.uid}  {r.dataset} / {r.model}"), r.uid) for r in (x.record for x in rows)]
            self.frame.push_screen(Picker("Scans", options), chosen)

        def chosen(uid: str | None) -> None:
            if uid is not None:
                self.show_scan(uid)

        self.frame.ask(self, "scans", partial(service.newest_scans, self.frame.workspace), show, "list the scans")

    async def action_show_run(self) -> None:
        """Show the scan's run in the Runs pane."""
        if self.scan is not None:
            await self.frame.open_run(self.scan.uid)

    def action_take_home(self) -> None:
        """Ask where the cleaned data and the mended model go."""
        if self.scan is not None:
            ask_for_export(self.frame, self.scan.uid)

    def action_copy(self) -> None:
        """Copy the scan's uid."""
        if self.scan is not None:
            self.frame.copy(self.scan.uid)
