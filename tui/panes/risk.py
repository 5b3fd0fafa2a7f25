"""The Risk pane: how severe and probable each attack is, why, and what helps."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from rich.markdown import Markdown
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Static

from safedl.errors import SafedlError
from safedl.risk.assess import RiskAssessment, ranked
from safedl.risk.documents import FORMULA, profile_section, risk_report, verdict
from safedl.text import printable, shown
from tui.panes.defenses import DefensesPane
from tui.panes.editing import EditingPane
from tui.services.times import local
from tui.widgets.lines import Lines
from tui.widgets.matrix import LEVELS, Matrix, badge, cell_of
from tui.widgets.pane import Box
from tui.widgets.scroll import Scroll
from tui.widgets.table import Column, Table

if TYPE_CHECKING:
    from safedl.conclusions.gather import Conclusions

MINUTES = "%Y-%m-%d %H:%M"
NOTHING_RAN = """\
No attack of this profile has completed yet, as it stands now: risk is measured, not guessed.

  [R]  runs the profile's plan, and shows it in pane 4
  [1]  chooses what to attack        [3]  chooses defenses

Each attack that has completed then stands here, with its severity, its
probability, the reasons, and the defenses that helped or may help."""


class Reader(ModalScreen[None]):
    """A document to read."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,o,q", "dismiss", "Close")]
    DEFAULT_CSS = """
    Reader { align: center middle; }
    Reader Box { width: 96%; height: 96%; background: $surface; }
    Reader Scroll { height: 1fr; }
    """

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.heading, self.text = title, text

    def compose(self) -> ComposeResult:
        """Lay out the document."""
        box = Box(title=self.heading)
        box.title(self.heading, "esc closes")
        with box, Scroll():
            yield Static(Markdown(printable(self.text), hyperlinks=False))


class Ranking(Table[RiskAssessment]):
    """The attacks, the highest risk first."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("enter", "choose", "defend")]


class RiskPane(EditingPane):
    """Matrix, ranking, reasons: one selection."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "defend", "defend"),
        Binding("o", "report", "report"),
        Binding("w", "write", "write into profile"),
        Binding("R", "run", "Run the profile", show=False, key_display="R"),
        Binding("y", "copy", "Copy the reasons", show=False),
    ]
    SCOPED_CSS = False
    DEFAULT_CSS = """
    RiskPane #left { width: 38; }
    .-wide RiskPane #left { width: 54; }
    RiskPane #matrix-box { height: 1fr; }
    RiskPane #formula-box { height: 6; }
    RiskPane #ranking-box { height: 8; }
    .-tall RiskPane #ranking-box { height: 14; }
    RiskPane #why-box { height: 1fr; }
    RiskPane #nothing { display: none; height: 1fr; padding: 1 2; }
    RiskPane.nothing #known { display: none; }
    RiskPane.nothing #nothing { display: block; }
    RiskPane Matrix { height: 1fr; }
    """
    HELP = """\
What the attacks did to the model, by the latest experiment of this profile. Matrix and ranking are one selection: \
C critical, H high, M medium, L low. enter goes to the defenses against the attack; o shows the whole report; \
w puts the section risk_analysis into the profile. On the command line: safedl risk."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.found: Conclusions | None = None

    def compose(self) -> ComposeResult:
        """Lay the matrix beside ranking and reasons."""
        yield Static("", id="nothing", markup=False)
        with Horizontal(classes="row", id="known"):
            with Vertical(id="left"):
                with Box(title="Severity by probability", id="matrix-box"):
                    yield Matrix()
                with Box(title="Formula", id="formula-box"):
                    yield Static(FORMULA, id="formula", markup=False)
            with Vertical(id="right"):
                with Box(title="Ranking", id="ranking-box"):
                    yield Ranking(
                        [
                            Column("attack", 0, lambda a: a.attack),
                            Column("sev", 4, lambda a: f"{a.severity:.2f}", right=True),
                            Column("prob", 4, lambda a: f"{a.probability:.2f}", right=True),
                            Column("vis", 4, lambda a: f"{a.visibility:.2f}", right=True, least=48),
                            Column("risk", 4, lambda a: f"{a.risk_score:.2f}", right=True),
                            Column("", 2, lambda a: badge(a.level) if a.effective else Text("–")),
                            Column("level", 20, verdict, least=60),
                        ],
                        lambda a: a.attack,
                        id="ranking",
                    )
                with Box(title="Why", id="why-box"), Scroll():
                    yield Static("", id="why", markup=False)

    @property
    def table(self) -> Ranking:
        """The ranking."""
        return self.query_one(Ranking)

    def opened(self) -> None:
        """Read what the store says about the profile."""
        self.paint()

    def tick(self) -> None:
        """Read again when an experiment has ended."""
        if self.an_experiment_ended():
            self.paint()

    def paint(self) -> None:
        """Ask the store, then show what it says."""
        draft, workspace = self.draft, self.frame.workspace
        profile = draft.profile
        if profile is None:
            self.found = None
            self._paint("This profile is not valid, so nothing can be said about it.\n\n  [1]  shows what is wrong")
            self.status = draft.broken or f"{draft.problems[0].path}: {draft.problems[0].message}"
            return
        reading = f"{draft.name}: reading what was measured …"
        if self.found is not None and self.found.profile.name != profile.name:
            self._forget(reading)  # another profile's
        self.status = reading

        def question() -> Conclusions:
            from safedl.conclusions.gather import conclude

            return conclude(workspace.db, workspace.results, profile)

        def take(found: Conclusions) -> None:
            if self.draft is not draft or draft.profile is None:
                return  # of one that is not valid nothing is asked, which would replace this
            self.found = found
            self._paint(f"{draft.name}\n\n{NOTHING_RAN}")

        def failed(error: Exception) -> None:
            self._forget(f"{draft.name}: what was measured could not be read")
            self.frame.show_error(error, "read what was measured")

        self.frame.ask(self, "risk", question, take, "read what was measured", failed)

    def _forget(self, why: str) -> None:
        self.found, self.status = None, why
        self._paint(why)

    # --- painting

    def _paint(self, nothing: str) -> None:
        assessments = self.found.assessments if self.found else ()
        self.set_class(not assessments, "nothing")
        self.query_one("#nothing", Static).update(nothing)
        self.refresh_bindings()
        if not assessments or self.found is None:
            self.focus_laid_out()
            self.status = self.status if self.found is None else "nothing was measured yet"
            return
        self.query_one(Matrix).show(assessments)
        self.table.set_rows(ranked(assessments))
        self._follow_ranking()
        self.focus_laid_out(unless=self._reads)
        effective = [a for a in assessments if a.effective]
        counts = [(level, sum(a.level == level for a in effective)) for level in reversed(LEVELS)]
        parts = [f"{count} {level}" for level, count in counts if count]
        parts += [f"{len(assessments) - len(effective)} not effective"] if len(effective) < len(assessments) else []
        record = self.found.experiment.record if self.found.experiment else None
        when = f" · experiment of {local(record.created_at, MINUTES)}" if record else ""
        self.status = f"{self.found.profile.name}: {', '.join(parts)}{when}"

    def first(self) -> Widget:
        """Return the ranking, or where nothing is known the pane itself."""
        return self if self.has_class("nothing") else self.table

    def _reads(self) -> bool:
        """Return whether somebody looks at what is known."""
        return self.query_one("#known").has_focus_within

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done with what was measured where something was."""
        if action in ("defend", "report", "write", "copy"):
            return bool(self.found and self.found.assessments)
        return super().check_action(action, parameters)

    def _follow_ranking(self) -> None:
        """Show the matrix's cell and the reasons of the attack under the cursor."""
        chosen = self.table.current
        if chosen is not None:
            if chosen.effective:
                self.query_one(Matrix).cell = cell_of(chosen)
            self._explain(chosen)

    def _explain(self, chosen: RiskAssessment) -> None:
        text = Text()
        for reason in chosen.reasons:
            text.append(printable(reason) + "\n")
        advice = self.found.advice.get(chosen.attack) if self.found else None
        if advice and advice.recommended:
            text.append("\nTry\n", style="bold")
            for item in advice.recommended:
                text.append(f"  {item.defense}", style="bold").append(printable(f": {item.reason}\n"))
        if advice and advice.unhelpful:
            text.append("\nMeasured, and no help\n", style="bold")
            for item in advice.unhelpful:
                text.append(f"  {item.defense}", style="bold").append(printable(f": {item.reason}\n"))
        history = self.found.history if self.found else ()
        points = [(p.at, p.scores[chosen.attack]) for p in history if chosen.attack in p.scores]
        if len(points) > 1:
            text.append("\nRisk over time\n", style="bold")
            text.append("".join(f"  {local(at, MINUTES)}  {shown(score)}\n" for at, score in points))
        self.query_one("#why", Static).update(text)
        self.query_one("#why-box", Box).title(f"Why {chosen.attack} is {verdict(chosen)}", "tab scrolls")

    # --- what the keys do

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Follow the ranking."""
        if event.lines.id == "ranking":
            self._follow_ranking()

    def on_matrix_moved(self, event: Matrix.Moved) -> None:
        """Follow the matrix."""
        found = self.query_one(Matrix).attacks.get(event.cell, ())
        place = next((i for i, a in enumerate(self.table.rows) if found and a.attack == found[0].attack), None)
        if place is None:
            self.query_one("#why", Static).update("no attack stands in this cell")
            self.query_one("#why-box", Box).title("Why")
        elif place == self.table.cursor:
            self._follow_ranking()
        else:
            self.table.cursor = place

    async def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Enter in the ranking."""
        if event.lines.id == "ranking":
            await self.action_defend()

    async def action_defend(self) -> None:
        """Choose defenses against the attack."""
        chosen = self.table.current
        if chosen is None:
            return
        await self.frame.action_go("defenses")
        pane = self.frame.pane
        if isinstance(pane, DefensesPane):
            pane.show_attack(chosen.attack)

    def action_report(self) -> None:
        """Read the risk report."""
        found = self.found
        if found is None:
            return
        from safedl.reports.links import links_from

        folder = self.frame.workspace.results
        text = risk_report(
            found.profile.name, found.assessments, found.advice, links_from(folder, folder), found.history
        )
        self.frame.push_screen(Reader(f"Risk report of {found.profile.name}", str(text)))

    def action_write(self) -> None:
        """Put the section risk_analysis into the profile."""
        found, draft = self.found, self.draft
        if found is None:
            return
        if draft.profile is None or draft.profile.name != found.profile.name:
            self.frame.say("this was measured of another profile", severe=True)
            return
        try:
            draft.change({("risk_analysis",): profile_section(found.assessments, found.advice)})
        except SafedlError as error:
            self.frame.show_error(error, "write into the profile")
            return
        self.frame.say(f"section risk_analysis is in {draft.path.name}")

    def action_copy(self) -> None:
        """Copy why an attack stands where it does."""
        chosen = self.table.current
        if chosen is not None:
            self.frame.copy("\n".join((chosen.attack, *chosen.reasons)))
