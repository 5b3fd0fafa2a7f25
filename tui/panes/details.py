"""What is known about a run: summary, report, samples, metrics, log, parameters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widget import Widget
from textual.widgets import ContentSwitcher, Markdown, Static
from textual.worker import Worker

from safedl.text import one_line, printable, shown
from tui.services.follow import SCAN
from tui.services.review import findings
from tui.services.runs import Details, Section
from tui.services.times import local
from tui.states import look
from tui.widgets.lines import Lines
from tui.widgets.logview import LogView
from tui.widgets.modal import Option, OptionLines
from tui.widgets.pane import Box
from tui.widgets.samples import Samples
from tui.widgets.scroll import Scroll
from tui.widgets.suspects import verdict_text
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from safedl.store.records import RunRow

SHORT = "In short"
"""The section of a report that the summary repeats."""
Fact = tuple[str, str, str]


class DetailsBox(Box):
    """Everything about one run, in tabs."""

    DEFAULT_CSS = """
    DetailsBox #sections { width: 24; height: 1fr; border-right: solid $surface-lighten-2; }
    DetailsBox Markdown { padding: 0 1; margin: 0; background: transparent; }
    DetailsBox .plain { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str) -> None:
        super().__init__(id=id)
        self.tab = "Summary"
        self.row: RunRow | None = None
        self.details: Details | None = None
        self._painted: dict[str, Details | None] = {}
        """What the tabs that show files show: painted again, they would lose the place that somebody reads."""

    def compose(self) -> ComposeResult:
        """The first tab; another is built at its first visit."""
        with ContentSwitcher(initial=self.tab):
            yield TABS[self.tab]()

    async def show_tab(self, tab: str) -> None:
        """Bring a tab to the front and show the run there."""
        switcher = self.query_one(ContentSwitcher)
        if not any(child.id == tab for child in switcher.children):
            await switcher.add_content(TABS[tab]())
        had_focus = any(node is self for node in (self.screen.focused.ancestors if self.screen.focused else ()))
        self.tab = switcher.current = tab
        if had_focus:
            self.focus_tab()
        self.call_after_refresh(self._paint)

    async def move_tab(self, tabs: int) -> None:
        """Go to the next or previous tab."""
        names = list(TABS)
        await self.show_tab(names[(names.index(self.tab) + tabs) % len(names)])

    def focus_tab(self) -> None:
        """Give the focus to what the tab shows."""
        target = self.query_one("#sections") if self.tab == "Report" else self.query_one(f"#{self.tab}")
        target.focus()

    def show(self, row: RunRow | None, details: Details | None) -> None:
        """Show a run; its details may come later."""
        self.row, self.details = row, details
        self._paint()

    def _paint(self) -> None:
        row, details = self.row, self.details
        tabs = " ".join(f"[{name}]" if name == self.tab else name for name in TABS)
        self.title(f"{row.record.uid[-6:]}  {tabs}" if row else tabs, "[ ] tabs   z zoom")
        if self.tab == "Summary":
            self.query_one("#summary", Static).update(_summary(row, details) if row else "")
        elif row is None:
            return
        elif self.tab == "Metrics":
            self._set_facts("Metrics", _metrics(row, details.result if details else {}))
        elif self.tab == "Params":
            self._set_facts("Params", _params(row))
        elif self.tab not in self._painted or self._painted[self.tab] != details:
            self._painted[self.tab] = details
            self._paint_files(details)

    def _paint_files(self, details: Details | None) -> None:
        """Show what the run's files hold; while they are read, nothing: what stood there is another run's."""
        if self.tab == "Report":
            lines = self.query_one("#sections", OptionLines)
            sections = details.sections if details else ()
            lines.options = [Option(one_line(s.title), str(i)) for i, s in enumerate(sections)]
            lines.cursor = 0
            lines.changed()
            self._show_section(0)
        elif self.tab == "Samples":
            self.query_one(Samples).show(details.pictures if details else ())
        elif self.tab == "Log":
            log = self.query_one("#Log", LogView)
            log.following = False
            log.set_lines((details.log or ("nothing was written",)) if details else ())

    def _set_facts(self, tab: str, facts: list[Fact]) -> None:
        table: Table[Fact] = self.query_one(f"#{tab}", Table)
        table.set_rows(facts)

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Show the section under the cursor."""
        if event.lines.id == "sections":
            event.stop()
            self._show_section(event.index)

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Go from the list of sections to the section; elsewhere enter opens nothing."""
        event.stop()
        if event.lines.id == "sections":
            self.query_one("#section").focus()

    def _show_section(self, index: int) -> None:
        sections = self.details.sections if self.details else ()
        none = Section("", "This run has no report." if self.details else "")
        section = sections[index] if index < len(sections) else none
        scroll = self.query_one("#section", Scroll)
        scroll.scroll_home(animate=False)
        update = partial(_update, scroll.query_one(Markdown), section.text)
        _: Worker[None] = self.run_worker(update, group="section", exclusive=True)


async def _update(markdown: Markdown, text: str) -> None:
    await markdown.update(printable(text))


def _facts(id: str, name: str, value: str, other: str) -> Table[Fact]:
    columns: list[Column[Fact]] = [Column(name, 0, lambda f: f[0]), Column(value, 0, lambda f: f[1])]
    if other:
        columns.append(Column(other, 12, lambda f: f[2]))
    return Table(columns, key=lambda f: f[0], id=id)


TABS: Mapping[str, Callable[[], Widget]] = {
    "Summary": lambda: Scroll(Static("", id="summary", classes="plain", markup=False), id="Summary"),
    "Report": lambda: Horizontal(
        OptionLines([], id="sections"), Scroll(Markdown("", open_links=False), id="section"), id="Report"
    ),
    "Samples": lambda: Samples(id="Samples"),
    "Metrics": lambda: _facts("Metrics", "metric", "value", "before"),
    "Log": lambda: LogView(id="Log"),
    "Params": lambda: _facts("Params", "parameter", "value", ""),
}
"""The tabs, in their order, and how each is made."""


def _summary(row: RunRow, details: Details | None) -> Text:
    record, shape = row.record, look(row.status)
    text = Text()
    text.append(f"{shape.glyph} {shape.word}", style=f"bold {shape.colour}").append(f"   {one_line(record.stage)}")
    reviewed = record.kind == SCAN and row.status == "completed"
    text.append("   v reviews the suspects\n" if reviewed else "\n")
    if row.error:
        text.append(f"why: {one_line(row.error)}\n")
    if record.kind == SCAN:
        if details is not None and details.result:
            text.append_text(verdict_text(findings(details.result))).append("\n")
    else:
        short = next((s.text for s in details.sections if s.title == SHORT), "") if details else ""
        for line in short.splitlines():
            text.append(f"{one_line(line)}\n".replace("- ", "· ", 1))
    facts: dict[str, Any] = {
        "data": f"{record.dataset} / {record.model}  seed {record.seed}", "device": record.device, "host": record.host,
        "began": _moment(row.started_at), "ended": _moment(row.finished_at),
        "uid": record.uid, "experiment": record.experiment,
        "starts from": record.parent, "attempt": record.attempt if record.attempt > 1 else None,
        "retry of": record.retry_of,
    }  # fmt: skip
    text.append("\n")
    for name, value in facts.items():
        if value is not None:
            text.append(f"{name:<12}", style="dim").append(f"{one_line(str(value))}\n")
    return text


def _moment(at: str | None) -> str | None:
    return at and local(at, "%Y-%m-%d %H:%M:%S %Z")


def _metrics(row: RunRow, result: Mapping[str, Any]) -> list[Fact]:
    before = result.get("before") or {}
    names = sorted(row.metrics, key=lambda name: ("." in name, name))
    return [(name, shown(row.metrics[name]) or "–", shown(before.get(name))) for name in names]


def _params(row: RunRow) -> list[Fact]:
    versions = {f"version.{name}": value for name, value in row.record.versions.items()}
    return [(name, shown(value), "") for name, value in {**row.record.params, **versions}.items()]
