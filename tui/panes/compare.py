"""The Compare pane: marked runs side by side against a baseline, rankings, plots, and SQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from textual import events
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import Static

from safedl.evaluation import MOST_COMPARED, only_newest
from safedl.evaluation.comparison import Ranking
from safedl.text import printable
from tui.services import comparison as service
from tui.services import export
from tui.services.ask import why
from tui.services.comparison import Compared, Overview
from tui.widgets.comparison import ComparisonGrid
from tui.widgets.fillin import ask_path
from tui.widgets.grid import Grid
from tui.widgets.lines import Lines
from tui.widgets.modal import Option, Picker
from tui.widgets.pane import Box, Pane
from tui.widgets.plotbox import PlotBox
from tui.widgets.ranking import RankingLines
from tui.widgets.sqlconsole import SqlConsole

NOTHING = """\
Nothing is marked, and nothing has been measured yet.

Mark runs in Runs (5) with space, or add them here with +.
Then they stand side by side, against a baseline that you choose (b),
with a star at the best of each line."""
Rows = tuple[Sequence[str], Sequence[Sequence[Any]]]


class ComparePane(Pane):
    """Metrics of the marked runs above; a plot and the SQL console below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "mark", "mark"),
        Binding("b", "baseline", "baseline"),
        Binding("t", "transpose", "transpose"),
        Binding("v", "plot", "plot"),
        Binding("s", "sql", "SQL"),
        Binding("r", "rankings", "marked/rankings"),
        Binding("plus", "add", "Add a run", show=False, key_display="+"),
        Binding("minus", "drop", "Take the run under the cursor away", show=False, key_display="-"),
        Binding("u", "unmark", "Take all marks away", show=False),
        Binding("c", "curve", "Next curve", show=False),
        Binding("E", "export", "Export the table as CSV or JSON", show=False, key_display="E"),
        Binding("N", "named", "Named queries", show=False, key_display="N"),
        Binding("f5", "reload", "Read again", show=False),
        Binding("escape", "back", "Back to the table", show=False),
    ]
    DEFAULT_CSS = """
    ComparePane #compare-box { height: 1fr; }
    ComparePane #below { height: 1fr; }
    ComparePane #plot-box { width: 4fr; }
    ComparePane #sql-box { width: 5fr; }
    ComparePane.asking #below { height: 3fr; }
    ComparePane.asking #compare-box { height: 2fr; }
    ComparePane.asking.narrow #plot-box { display: none; }
    ComparePane #nothing { padding: 1 2; }
    ComparePane .hidden { display: none; }
    """
    HELP = """\
Marked runs side by side. The first is the baseline (b makes it the run under the cursor), others show their change; \
★ is the best of a line, ↑ and ↓ say whether more or less of it is better.

r shows instead how each attack's defenses rank. Below: bars, curves or a plane (v), and SQL that only reads (s)."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.overview: Overview | None = None
        self.ranked = False
        """Whether someone wants to see rankings though runs are marked."""
        self._problem = ""
        """Why runs or rankings could not be read."""

    def compose(self) -> ComposeResult:
        """Lay the table above plot and console."""
        with Box(title="Compare", id="compare-box"):
            # Hidden until they are read: one with the focus that is hidden for a moment may pass it on to the console.
            for shown in (ComparisonGrid(id="compare"), RankingLines(self.frame.marked, id="rankings")):
                shown.add_class("hidden")
                yield shown
            yield Static("", id="nothing", markup=False)
        with Horizontal(id="below", classes="row"):
            yield PlotBox(id="plot-box")
            yield SqlConsole(id="sql-box")

    @property
    def grid(self) -> ComparisonGrid:
        """The comparison."""
        return self.query_one(ComparisonGrid)

    @property
    def rankings(self) -> RankingLines:
        """The rankings."""
        return self.query_one(RankingLines)

    @property
    def console(self) -> SqlConsole:
        """The SQL console."""
        return self.query_one(SqlConsole)

    # --- reading

    def on_mount(self) -> None:
        """Show the table as it was last time."""
        self.grid.transposed = self.frame.memory.get("compare transposed", False)

    def opened(self) -> None:
        """Read the marked runs and the rankings."""
        self.action_back()
        self.action_reload()

    def action_reload(self) -> None:
        """Read again: the marked runs, which are there at once, and the rankings."""
        workspace, marked, self._problem = self.frame.workspace, tuple(self.frame.marked), ""
        read_marked = partial(service.read_marked, workspace, marked)
        read_overview = partial(service.read_overview, workspace)
        self.frame.ask(self, "marked", read_marked, self._take_runs, "read the runs", self._object)
        self.frame.ask(self, "overview", read_overview, self._take_overview, "rank the defenses", self._object)

    def _object(self, error: Exception) -> None:
        """Say in place what is wrong: both questions fail alike where the store cannot be used."""
        self._problem = f"{why(error)}  (F5 reads again)"
        self._show()

    def _take_runs(self, runs: list[Compared]) -> None:
        self.query_one(PlotBox).forget_curves()
        self.grid.show_runs(runs)
        self._take()

    def _take_overview(self, overview: Overview) -> None:
        self.overview = overview
        self.rankings.show(overview.rankings)
        self._take()

    def _take(self) -> None:
        self.console.known = self._known()
        self._show()
        self.focus_laid_out(unless=self._asks)

    def first(self) -> Widget:
        """Return the table, or where there is none the pane itself."""
        shown = self.rankings if self.shows_rankings else self.grid
        return self if shown.has_class("hidden") else shown

    def _asks(self) -> bool:
        """Return whether somebody asks in SQL."""
        focused = self.frame.main.focused
        return focused is not None and self.console in focused.ancestors_with_self

    def _known(self) -> dict[str, str]:
        """Return the attack that is being looked at, for named queries."""
        attacks = [run.record.attack for run in self.grid.runs if run.record.attack]
        attacks += [ranking.attack for ranking in self.ranked_attacks]
        return {"attack": attacks[0], "parameter": "attack.poison_fraction"} if attacks else {}

    # --- showing

    @property
    def ranked_attacks(self) -> Sequence[Ranking]:
        """The rankings, as far as they have been read."""
        return self.overview.rankings if self.overview else ()

    @property
    def shows_rankings(self) -> bool:
        """Whether rankings are shown, by choice or because nothing is marked."""
        return self.ranked or not self.grid.runs

    def _show(self) -> None:
        empty = not (self.ranked_attacks if self.shows_rankings else self.grid.runs)
        self.query_one("#nothing").set_class(not empty, "hidden")
        self.grid.set_class(empty or self.shows_rankings, "hidden")
        self.rankings.set_class(empty or not self.shows_rankings, "hidden")
        none = f"The runs cannot be read.\n\n{self._problem}" if self._problem else ""
        self.query_one("#nothing", Static).update(printable(none or (NOTHING if self.overview else "reading …")))
        self.refresh_bindings()
        self._follow()

    def _tell(self) -> None:
        self._tell_what_is_shown()
        self.status = self._problem or self.status

    def _tell_what_is_shown(self) -> None:
        box = self.query_one("#compare-box", Box)
        marked = len(self.frame.marked)
        if self.shows_rankings:
            about = self.overview.about if self.overview else ""
            box.title(f"Rankings · {about}" if about else "Compare", "[x] space marks")
            some = f"{only_newest(MOST_COMPARED)} · " if self.overview and self.overview.left_out else ""
            self.status = some + (
                f"{marked} marked · r puts them side by side"
                if marked
                else "nothing is marked: space marks a line's runs, + adds a run, Runs (5) marks too"
            )
            return
        count = len(self.grid.runs)
        cells = {f"{run.record.dataset} / {run.record.model}" for run in self.grid.runs}
        about = cells.pop() if len(cells) == 1 else "several data sets or models"
        box.title(f"Compare {count} run{'s' * (count != 1)} · {about}", "= baseline  ★ best  ↑ more is better")
        more = f" · {count} of {marked} marked" if marked > count else ""
        run = self.grid.current
        self.status = f"{run.record.stage} · {run.record.uid}{more}" if run else ""

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Follow the cursor."""
        if event.lines in (self.grid, self.rankings):
            self._follow()

    def on_grid_column_moved(self, event: Grid.ColumnMoved) -> None:
        """Follow the cursor."""
        if event.grid is self.grid:
            self._follow()

    def _follow(self) -> None:
        self._tell()
        plot, line = self.query_one(PlotBox), self.rankings.current
        if self.shows_rankings and line is not None:
            plot.show_ranking(line.ranking)
        else:
            plot.show(self.grid.runs, self.grid.metric, self.grid.current)

    def on_resize(self) -> None:
        """Where there is little room, the console takes the plot's while it has the focus."""
        self.set_class(self.size.width < 100, "narrow")

    def tick(self) -> None:
        """Let the console say how long it has been working; read again when an experiment has ended."""
        self.console.tick()
        if self.an_experiment_ended():
            self.action_reload()

    # --- what the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the keys that mean something for what is shown."""
        if action in ("baseline", "transpose", "drop", "curve"):
            return not self.shows_rankings and (action != "curve" or self.query_one(PlotBox).kind == "curves")
        return action != "mark" or self.shows_rankings

    def action_baseline(self) -> None:
        """Compare with the run under the cursor."""
        run = self.grid.current
        if run is None or self.shows_rankings:
            self.frame.say("the baseline is one of the marked runs; mark some first")
            return
        if run.record.uid == self.grid.baseline:
            self.frame.say(f"{run.label} is the baseline; move to another run, then b")
            return
        self.grid.compare_with(run)
        self._follow()

    def action_transpose(self) -> None:
        """Turn rows into columns; the cursor stays on its cell."""
        self.grid.transpose()
        self.frame.memory.set("compare transposed", self.grid.transposed)
        self._follow()

    def action_plot(self) -> None:
        """Show the next kind of plot."""
        self.query_one(PlotBox).next_kind()
        self.refresh_bindings()

    def action_curve(self) -> None:
        """Show the next curve."""
        self.query_one(PlotBox).next_curve()

    def action_rankings(self) -> None:
        """Show rankings or marked runs."""
        self.ranked = not self.shows_rankings
        self.action_reload()
        self._show()
        self.focus_laid_out()

    def action_add(self) -> None:
        """Pick a run to add."""

        def show(records: Sequence[Any]) -> None:
            options = [
                Option(
                    f"{r.uid[-6:]}  {service.labels([r])[0]}  {r.attack or ''}  {r.dataset}/{r.model} @{r.seed}", r.uid
                )
                for r in records
                if r.uid not in self.frame.marked
            ]
            self.frame.push_screen(Picker("Add a run" if options else "No other completed run", options), chosen)

        def chosen(uid: str | None) -> None:
            if uid is not None:
                self._mark({uid}, on=True)
                self.ranked = False

        newest = partial(service.newest_runs, self.frame.workspace)
        self.frame.ask(self, "newest", newest, show, "list the runs")

    def action_drop(self) -> None:
        """Take the run under the cursor away."""
        if self.grid.current is not None and not self.shows_rankings:
            self._mark({self.grid.current.record.uid}, on=False)

    def action_unmark(self) -> None:
        """Take all marks away."""
        self._mark(set(self.frame.marked), on=False)

    def action_mark(self) -> None:
        """Mark what the ranking's line stands for, or take its marks away."""
        line = self.rankings.current
        if self.shows_rankings and line is not None:
            self.ranked = True
            runs = set(line.runs)
            self._mark(runs, on=not runs <= self.frame.marked)

    def _mark(self, uids: set[str], *, on: bool) -> None:
        if on:
            self.frame.marked.update(uids)
        else:
            self.frame.marked.difference_update(uids)
        self.frame.remember_marks()
        self.rankings.refresh()
        self.action_reload()

    def action_export(self) -> None:
        """Write the table, or the query's rows if the focus is there."""
        if self.screen.focused in (self.console.rows, self.console.editor):
            self.console.export(self._save)
        elif self.grid.runs and not self.shows_rankings:
            self._save("comparison", self.grid.table)
        elif self.grid.runs:
            self.frame.say("E exports the marked runs, which r shows; rankings: safedl compare --csv")
        else:
            self.frame.say("nothing is marked, so there is nothing to export; rankings: safedl compare --csv")

    def _save(self, name: str, table: Callable[[], Rows]) -> None:
        def write(path: Path) -> None:
            def work() -> int:
                columns, rows = table()
                export.write_rows(path, columns, rows)
                return len(rows)

            self.frame.ask(
                self, "export", work, lambda n: self.frame.say(f"{n} row{'s' * (n != 1)}: {path}"), "write the file"
            )

        suggested = self.frame.workspace.root / f"{name}.csv"
        ask_path(self.frame, "Export as .csv or .json", suggested, export.objection, write)

    def action_sql(self) -> None:
        """Go to the SQL editor."""
        self.console.editor.focus()

    def action_named(self) -> None:
        """Pick a query that comes with Safe-DL."""
        self.console.action_named()

    def action_back(self) -> None:
        """Go to the table."""
        self.focus_first()

    def on_sql_console_left(self) -> None:
        """The editor was left."""
        self.action_back()

    async def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Open the run under the cursor."""
        line = self.rankings.current
        if event.lines is self.grid and self.grid.current is not None:
            await self.frame.open_run(self.grid.current.record.uid)
        elif event.lines is self.rankings and line is not None and line.runs:
            await self.frame.open_run(line.runs[-1])

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """Give the console room while it has the focus."""
        self.set_class(self.console in event.widget.ancestors_with_self, "asking")
