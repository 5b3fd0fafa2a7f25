"""The Defenses pane: which defenses to try against which attack, with which parameters, and what the plan costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from safedl.catalog import DEFENSES
from safedl.risk.recommend import Advice
from safedl.text import duration, printable
from tui.panes.editing import EditingPane
from tui.services import defending, drafts, plan_cost
from tui.services.defending import Changes, Defending, Recommended
from tui.services.drafts import REMOVED
from tui.services.plan_cost import History
from tui.states import unicode_works
from tui.widgets.form import Form, fields_of
from tui.widgets.lines import Lines
from tui.widgets.pane import Box
from tui.widgets.picks import Pick, Picks

EMPTY = "This profile names no attack: press 1 and choose threats or attacks first."
UNREADABLE = "This profile cannot be read: press 1, then e opens your editor."


class DefensesPane(EditingPane):
    """Attacks at the left; at the right the defenses against one, and the parameters of one of those."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("a", "accept", "accept"),
        Binding("c", "customise", "customise"),
        Binding("r", "run", "run plan"),
        Binding("u", "undo", "Take the last change back", show=False),
        Binding("escape", "back", "Back", show=False),
        Binding("h,left", "back", "Back", show=False),
        Binding("l,right", "customise", "To the defenses", show=False),
    ]
    SCOPED_CSS = False
    DEFAULT_CSS = """
    DefensesPane #left { width: 26; }
    .-wide DefensesPane #left { width: 34; }
    DefensesPane #attacks-box { height: 1fr; }
    DefensesPane #cost-box { height: 8; }
    DefensesPane #defenses-box { height: 8; }
    .-tall DefensesPane #defenses-box { height: 10; }
    DefensesPane #params-box { height: 1fr; }
    DefensesPane #changed-box { height: 4; }
    .-tall DefensesPane #changed-box { height: 9; }
    """
    HELP = """\
What to try against each attack. A star marks what is recommended: by what was measured on this data set and model, \
or on images of the same shape, else by what is known of the method. a takes the recommendation, space adds or removes \
a defense, enter edits its parameters. Changes are saved in the profile at once; u takes the last one back; r runs the \
plan. What was done before is run again where data, code or the threads of a run are not those of then: safedl plan \
tells."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.advice: Mapping[str, Advice] = {}
        self.history = History()
        self._about = ""
        """The profile that advice and history are about."""

    def compose(self) -> ComposeResult:
        """Lay attacks, defenses, parameters and what differs from the recommendation."""
        with Horizontal(classes="row"):
            with Vertical(id="left"):
                with Box(title="Attacks", id="attacks-box"):
                    yield Picks(id="attacks")
                with Box(title="Cost of this plan", id="cost-box"):
                    yield Static("", id="cost", markup=False)
            with Vertical(id="right"):
                with Box(title="Defenses", id="defenses-box"):
                    yield Picks(id="defenses")
                with Box(title="Parameters", id="params-box"):
                    yield Form()
                with Box(title="Changed from the recommendation", id="changed-box"):
                    yield Static("", id="changed", markup=False)

    @property
    def attack(self) -> str:
        """The attack under the cursor, empty if there is none."""
        return self.chosen("attacks")

    @property
    def defense(self) -> str:
        """The defense under the cursor, empty if there is none."""
        return self.chosen("defenses")

    def opened(self) -> None:
        """Read profile, recommendations and history again."""
        if self._about != self.draft.name:  # another profile's would be shown, and accepted, until there is an answer
            self.advice, self.history, self._about = {}, History(), self.draft.name
        self.paint()
        self.picks("attacks").focus()
        self._ask()

    def tick(self) -> None:
        """Ask again when an experiment has ended."""
        if self.an_experiment_ended():
            self._ask()

    def show_attack(self, attack: str) -> None:
        """Put the cursor on an attack and go to its defenses."""
        self.picks("attacks").point_at(attack)
        self.paint()
        self.picks("defenses").focus()

    def _ask(self) -> None:
        """Ask the store what was measured, and how long it took."""
        profile, workspace, name = self.draft.profile, self.frame.workspace, self.draft.name
        if profile is None:
            return

        def question() -> tuple[Mapping[str, Advice], History]:
            from safedl.conclusions.gather import conclude

            advice = conclude(workspace.db, workspace.results, profile).advice if workspace.db.exists() else {}
            return advice, plan_cost.history(workspace.db, profile)

        def take(answer: tuple[Mapping[str, Advice], History]) -> None:
            if name == self.draft.name:  # of one that is not valid nothing is asked, which would replace this
                self.advice, self.history = answer
                self.paint()

        self.frame.ask(self, "advice", question, take, "read what was measured")

    # --- painting

    def paint(self) -> None:
        """Show everything anew."""
        draft = self.draft
        attacks = self.picks("attacks")
        attacks.empty = "cannot be read" if draft.broken else "none"
        attacks.show([self._attack_line(name) for name in drafts.attacks_of(draft)])
        self.query_one("#attacks-box", Box).title(f"Attacks of {draft.name}")
        self._paint_defenses()
        self._paint_cost()

    def _attack_line(self, name: str) -> Pick:
        now = defending.defending(self.draft, name)
        applicable = len(defending.applicable(name, self._advised(name)))
        return Pick(name, now.mode(self._advised(name)), name, f"{len(now.names)}/{applicable}")

    def _advised(self, attack: str) -> Recommended:
        return defending.recommend(attack, self.advice.get(attack))

    def _now(self) -> Defending:
        return defending.defending(self.draft, self.attack)

    def _paint_defenses(self) -> None:
        picks = self.picks("defenses")
        if not self.attack:
            picks.show([])
            for box, title in (("defenses", "Defenses"), ("params", "Parameters"), ("changed", "What to do")):
                self.query_one(f"#{box}-box", Box).title(title)  # another profile's stand there else
            self._paint_form()
            self.query_one("#changed", Static).update(Text(UNREADABLE if self.draft.broken else EMPTY))
            self.status = self._sentence()
            return
        now, advised = self._now(), self._advised(self.attack)
        star = "★" if unicode_works() else "R"
        names = list(defending.applicable(self.attack, advised))
        width = max(map(len, names), default=0)
        picks.show([
            Pick(
                name, f"[{'x' if name in now.names else ' '}]",
                f"{name.ljust(width)} {star if name in advised.names else ' '}",
                f"{self._took(name)}  {advised.reasons.get(name, '')}",
            )
            for name in names
        ])  # fmt: skip
        self.query_one("#defenses-box", Box).title(self.attack, self._source(advised, star))
        found = defending.differences(now, advised)
        names = [line for line in found if not line.startswith("~")]
        lines = [line for line in found if line.startswith("~")] + (["  ".join(names)] if names else [])
        lines = lines or ["nothing: this is the recommendation"]
        everything = defending.runs_all(now, advised)
        if everything:
            lines = [f"this profile runs all that apply; a takes the {len(advised.names)} recommended"]
        title = "Beside the recommendation" if everything else "Changed from the recommendation"
        self.query_one("#changed-box", Box).title(title)
        if not advised.names:
            lines.insert(0, "nothing is recommended: the attack did not work here")
        self.query_one("#changed", Static).update(Text(printable("\n".join(lines))))
        self._paint_form()
        self.status = self._sentence()

    def _took(self, defense: str) -> str:
        seconds = self.history.of(defense, self.attack)
        return "    ?" if seconds is None else duration(seconds).rjust(5)

    def _source(self, advised: Recommended, star: str) -> str:
        if not advised.names:
            return "nothing to recommend"
        return f"{star} recommended, {'as measured' if advised.measured else 'not measured yet'}"

    def _paint_form(self) -> None:
        form, box = self.query_one(Form), self.query_one("#params-box", Box)
        if not self.defense or not self.attack:
            form.show([], {}, {})
            return
        spec, now = DEFENSES[self.defense], self._now()
        errors = self.draft.problems_of((*now.path, self.defense))
        form.show(fields_of(spec.params), now.params.get(self.defense, {}), errors)
        box.title(f"{self.defense} · parameters", "enter edits, d default")

    def _paint_cost(self) -> None:
        profile = self.draft.profile
        if profile is None or profile.missing:
            text = "unknown: the profile is not complete or not valid"
        else:
            found = plan_cost.cost(profile, self.history)
            known = f"about {duration(found.seconds)}" if found.to_run > found.unknown else ""
            parts = [f"{found.to_run} run{'s' * (found.to_run != 1)} to do"]
            # Whether data, code and threads are those of then only a driver can tell.
            parts += [f"{found.done} done before", "kept unless outdated"] if found.done else []
            parts += [known] if known else []
            parts += [f"{found.unknown} of unknown length"] if found.unknown else []
            text = "\n".join(parts)
        self.query_one("#cost", Static).update(text)

    def _sentence(self) -> str:
        draft = self.draft
        if draft.broken:
            return f"{draft.path.name} cannot be read: 1, then e opens your editor"
        if draft.problems:
            first = draft.problems[0]
            count = f"{len(draft.problems)} value{'s' * (len(draft.problems) != 1)} not valid"
            return f"{'not saved: ' if draft.unsaved else ''}{count}: {first.path}: {first.message}"
        attacks = drafts.attacks_of(draft)
        planned = sum(bool(defending.defending(draft, a).names) for a in attacks)
        return f"{planned} of {len(attacks)} attacks have defenses · R recommended, A all, C customised, – none"

    # --- what the keys do

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Follow the cursors."""
        if event.lines.id == "attacks":
            self._paint_defenses()
        elif event.lines.id == "defenses" and isinstance(event.lines, Picks):
            self._paint_form()
            pick = event.lines.current
            if event.lines.has_focus and pick and not self.draft.problems:
                self.status = f"{DEFENSES[pick.value].summary} {self._advised(self.attack).reasons.get(pick.value, '')}"

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Enter goes one step further: from attack to defenses to parameters."""
        if event.lines.id == "attacks":
            self.action_customise()
        elif event.lines.id == "defenses":
            self.query_one(Form).lines.focus()

    def on_picks_ticked(self, event: Picks.Ticked) -> None:
        """Space adds or removes a defense."""
        if event.lines.id == "attacks":
            self.action_customise()
        else:
            self.change(defending.toggled(self._now(), event.pick.value))

    def on_form_changed(self, event: Form.Changed) -> None:
        """Set a parameter; a defense whose parameters are set is one to try."""
        now = self._now()
        changes: Changes = {(*now.path, self.defense, event.name): REMOVED if event.reset else event.value}
        names = list(now.names) if self.defense in now.names or event.reset else [*now.names, self.defense]
        self.change({(*now.path, "defenses"): names, **changes})

    def action_accept(self) -> None:
        """Take the recommendation for this attack."""
        advised = self._advised(self.attack) if self.attack else None
        if advised is None or not advised.names:
            self.frame.say("there is nothing to accept here")
            return
        self.change(defending.accepted(self._now(), advised))
        self.frame.say(f"{self.attack}: {', '.join(advised.names)}")

    def action_customise(self) -> None:
        """Go to the defenses of this attack, to choose among them."""
        if self.attack:
            self.picks("defenses").focus()

    def action_back(self) -> None:
        """Go one step back: from parameters to defenses to attacks."""
        self.picks("defenses" if self.query_one(Form).lines.has_focus else "attacks").focus()
