"""The Ship pane: the deployment checklist of a profile, people's answers, the verdict, the final report."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.widget import Widget
from textual.widgets import Static

from safedl.decision.answers import Answer
from safedl.decision.decide import Item
from safedl.errors import SafedlError
from safedl.text import one_line, printable
from tui.panes.editing import before_changes_are_lost
from tui.panes.start import ask_for_profile
from tui.services import drafts
from tui.services import ship as service
from tui.services.ask import why
from tui.widgets.fillin import FillIn, Line, Values, ask_path
from tui.widgets.lines import Lines
from tui.widgets.modal import Option, Picker
from tui.widgets.pane import Box, Pane
from tui.widgets.scroll import Scroll
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from safedl.conclusions.gather import Conclusions


class ShipPane(Pane):
    """The checklist above, the item under the cursor below."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("space", "done", "done"),
        Binding("n", "note", "note"),
        Binding("w", "waive", "waive"),
        Binding("E", "export", "report", key_display="E"),
        Binding("p", "profile", "profile"),
        Binding("y", "copy", "Copy what is known of the item", show=False),
        Binding("f5", "reload", "Read again", show=False),
        Binding("escape", "back", "Back to the checklist", show=False),
    ]
    DEFAULT_CSS = """
    ShipPane #checklist-box { height: 3fr; }
    ShipPane #item-box { height: 2fr; }
    ShipPane #item { height: auto; }
    ShipPane #problem { height: 1fr; padding: 1 2; display: none; }
    ShipPane.-broken #problem { display: block; }
    ShipPane.-broken Table, ShipPane.-broken #item-box { display: none; }
    """
    HELP = """\
May the model ship? Automatic checks are computed from the profile's runs; what people must settle, they tick, \
with a note and an owner. A failed check blocks until it passes or someone waives it and answers for it.

Manual items never block. The same answers and verdict: safedl note, safedl check."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.found: Conclusions | None = None

    def compose(self) -> ComposeResult:
        """Lay the checklist above the item."""
        columns: list[Column[Item]] = [
            Column("state", 8, _state),
            Column("check", 40, lambda i: i.title),
            Column("what was found", 0, _found),
            Column("owner", 14, lambda i: i.answer.owner if i.answer else "", least=100),
        ]
        with Box(title="Deployment checklist", id="checklist-box"):
            yield Table(columns, key=lambda i: i.id, id="checklist")
            yield Static("", id="problem", markup=False)
        with Box(title="", id="item-box"), Scroll():
            yield Static("", id="item", markup=False)

    @property
    def table(self) -> Table[Item]:
        """The checklist."""
        return self.query_one("#checklist", Table)

    @property
    def profile(self) -> Path:
        """The file of the profile that all panes show."""
        return drafts.current(self.frame).path

    # --- reading and showing

    def opened(self) -> None:
        """Read what is known of the current profile."""
        self.action_back()
        self.action_reload()

    def tick(self) -> None:
        """Read again when an experiment has ended."""
        if self.an_experiment_ended():
            self.action_reload()

    def action_reload(self) -> None:
        """Read again."""
        read = partial(service.read, self.frame.workspace, self.profile)
        self.frame.ask(self, "ship", read, self._show, "read the checklist", self._object)

    def _show(self, found: Conclusions) -> None:
        self.found = found
        self.remove_class("-broken")
        decision = found.decision
        self.table.set_rows(decision.checklist)
        count = f"{service.closed(decision.checklist)} of {len(decision.checklist)} closed"
        ran = f"experiment {found.experiment.record.uid}" if found.experiment else "never ran"
        self.query_one("#checklist-box", Box).title(f"Deployment checklist · {found.profile.name} · {count}", ran)
        never = "" if found.experiment else f" · {found.profile.name} has never run: run it in Run (4)"
        self.status = service.verdict(decision) + never
        self._show_item()
        self._settle()

    def _object(self, error: Exception) -> None:
        """Say in place why there is no checklist: a profile may be half written, a store locked."""
        self.found = None
        self.add_class("-broken")
        name = self.profile.stem
        text = f"There is no checklist of {name}:\n\n{why(error)}\n\np picks another profile, F5 reads again."
        self.query_one("#problem", Static).update(printable(text))
        self.query_one("#checklist-box", Box).title(f"Deployment checklist · {name}")
        self.status = "no checklist"
        self._settle()

    def _settle(self) -> None:
        """Offer the keys of what is shown now, and where nobody reads an item give it the focus."""
        self.refresh_bindings()
        self.focus_laid_out(unless=self._reads)

    def first(self) -> Widget:
        """Return the checklist, or where there is none the pane itself."""
        return self if self.has_class("-broken") else self.table

    def _reads(self) -> bool:
        """Return whether somebody reads an item."""
        return self.query_one("#item-box").has_focus_within

    def _show_item(self) -> None:
        item = self.table.current
        if item is not None:
            self.query_one("#item-box", Box).title(item.title, "automatic" if item.automatic else "manual")
            self.query_one("#item", Static).update(printable(service.described(item)))

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Show the item under the cursor."""
        if event.lines is self.table:
            self._show_item()

    # --- what the keys do

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is done to an item where there is a checklist."""
        if action in ("done", "note", "waive", "export", "copy"):
            return not self.has_class("-broken")
        return super().check_action(action, parameters)

    def action_back(self) -> None:
        """Go to the checklist."""
        self.focus_first()

    async def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Open the run that the item rests on, or ask which."""
        item = self.table.current
        if item is None or event.lines is not self.table:
            return
        if len(item.evidence) == 1:
            await self.frame.open_run(item.evidence[0])
        elif item.evidence and self.found is not None:
            stages = {p.uid: p.stage for p in self.found.facts.planned}
            options = [Option(f"{stages.get(uid, '')}   {uid}", uid) for uid in item.evidence]
            self.frame.push_screen(Picker(f"{item.title}: runs", options), self._open)
        else:
            self.frame.say("this rests on no run of its own")

    async def _open(self, uid: str | None) -> None:
        if uid is not None:
            await self.frame.open_run(uid)

    def _manual(self) -> Item | None:
        item = self.table.current if self.found is not None else None
        if item is not None and item.automatic:
            self.frame.say("this is checked automatically; w waives it when it fails")
            return None
        return item

    def action_done(self) -> None:
        """Settle the item, or open it again."""
        item = self._manual()
        if item is not None and item.answer is not None and item.answer.waived:
            self.frame.say("this is waived; w changes that")
        elif item is not None:
            self._answerer()(item, service.toggled(item, self._today()))

    def action_note(self) -> None:
        """Write down what was done, who answers for it, and when."""
        item = self._manual()
        if item is None:
            return
        before = item.answer or Answer()
        lines = (
            Line("note", "Note", before.note, "what was done, and where it is written down"),
            Line("owner", "Owner", before.owner, "who answers for it"),
            Line("date", "Date", before.date.isoformat() if before.date else "", "2027-01-31: when it was settled"),
        )

        answer = self._answerer()

        def taken(values: Values | None) -> None:
            if values is not None:
                changes = {**values, "date": service.date_of(values["date"])}
                answer(item, before.model_copy(update=changes))

        self.frame.push_screen(FillIn(item.title, lines, intro=item.detail, check=_check_date), taken)

    def action_waive(self) -> None:
        """Let the item stay as it is: with a reason and an owner."""
        item = self.table.current if self.found is not None else None
        if item is None:
            return
        before = item.answer or Answer()
        if item.automatic and item.status not in ("fail", "waived"):
            self.frame.say("only a failed check needs a waiver")
            return
        lines = (
            Line("waiver", "Reason (empty: no waiver)", before.waiver, "why it may stay as it is"),
            Line("owner", "Owner", before.owner, "who answers for it"),
        )

        def check(values: Values) -> str | None:
            return "a waiver needs an owner" if values["waiver"] and not values["owner"] else None

        answer = self._answerer()

        def taken(values: Values | None) -> None:
            if values is None:
                return
            if values["waiver"]:
                changes = {**values, "date": self._today()}
                answer(item, before.model_copy(update=changes))
            else:
                kept = before.model_copy(update={"waiver": "", "date": before.date if before.done else None})
                answer(item, None if item.automatic or not (kept.done or kept.note) else kept)

        self.frame.push_screen(FillIn(f"Waive: {item.title}", lines, intro=item.detail, check=check), taken)

    def _answerer(self) -> Callable[[Item, Answer | None], None]:
        """Return what writes an answer for the profile that is shown now, whatever is shown by then."""
        return partial(self._answer, self.found.profile.name if self.found is not None else "")

    def _answer(self, profile: str, item: Item, answer: Answer | None) -> None:
        write = partial(service.answer, self.frame.workspace, profile, item.id, answer)
        self.frame.ask(self, f"answer {item.id}", write, lambda _: self.action_reload(), "write the answer")

    def _today(self) -> date:
        return datetime.fromtimestamp(self.frame.clock(), UTC).date()

    def action_export(self) -> None:
        """Write the final report."""
        if self.found is None or self.found.experiment is None:
            self.frame.say("there is nothing to report yet: this profile has not run")
            return
        profile = self.profile

        def write(path: Path) -> None:
            work = partial(service.write_report, self.frame.workspace, profile, path)
            self.frame.say("writing the report …")
            self.frame.ask(self, "report", work, lambda _: self.frame.say(f"report: {path}"), "write the report")

        suggested = self.frame.workspace.results / "final_report.html"
        ask_path(self.frame, "Write the final report, as .md or .html", suggested, service.objection, write)

    def action_profile(self) -> None:
        """Pick the profile that all panes show."""

        def show(name: str) -> None:
            try:
                drafts.choose(self.frame, name)
            except SafedlError as error:
                self.frame.show_error(error, "show the profile")
            self.action_reload()

        def chosen(name: str, _: Path) -> None:
            before_changes_are_lost(self.frame, "show another", partial(show, name))

        ask_for_profile(self.frame, "Profile", chosen)

    def action_copy(self) -> None:
        """Copy what is known of the item."""
        item = self.table.current
        if item is not None:
            self.frame.copy(f"{item.title}: {service.look(item).word}\n{service.described(item)}")


def _state(item: Item) -> Text:
    shape = service.look(item)
    return Text(f"{shape.glyph} {shape.word}", style=shape.colour)


def _found(item: Item) -> str:
    given = item.answer
    if given is not None and given.waived:
        return one_line(given.waiver)
    return one_line(given.note) if given is not None and given.note else item.detail


def _check_date(values: Values) -> str | None:
    try:
        service.date_of(values["date"])
    except ValueError:
        return "write the date as 2027-01-31"
    return None
