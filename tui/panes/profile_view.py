"""How the Profile pane looks: questions and settings at the left, the place to answer at the right, what follows."""

from __future__ import annotations

from typing import Any

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.widgets import Static

from safedl.catalog import ATTACKS
from safedl.catalog.settings import name_after
from safedl.profile.files import absent_files
from safedl.text import printable
from safedl.threats import CATEGORIES, QUESTIONS, Question, suggest
from tui.panes.editing import EditingPane
from tui.services import drafts, settings
from tui.services.drafts import found
from tui.services.questionnaire import ASKED, NewProfile
from tui.states import sign
from tui.widgets.form import Form
from tui.widgets.pane import Box
from tui.widgets.picks import Pick, Picks
from tui.widgets.scroll import Scroll

THREATS = "Threats are kinds of attack to be ready for. What your answers suggest is marked so, with the reason.\n"
THREATS += "Covering one adds its attacks and defenses to the profile; leaving it out takes them away.\n"
THREATS += "enter goes to the list below, space covers a threat or leaves it out."
ATTACKS_TEXT = "Which attacks to simulate. space adds or removes one, enter edits its parameters."
SHORT = {
    "model_access": "access", "attack_goal": "goal", "deployment_scenario": "deployment", "data_sensitivity":
    "sensitivity", "training_data_source": "data source", "model_type": "model type", "interface_exposed": "interface",
    "dataset": "data set",
}  # fmt: skip
"""What the questions are called beside their answers."""
QUESTION_IDS = tuple(q.id for q in ASKED)


class ProfileView(EditingPane):
    """One profile, or one that is being made by questions."""

    SCOPED_CSS = False
    DEFAULT_CSS = """
    ProfileView #left { width: 30; }
    .-wide ProfileView #left { width: 38; }
    ProfileView #rail-box { height: 1fr; }
    ProfileView #saved-box { height: 6; }
    .-tall ProfileView #saved-box { height: 12; }
    ProfileView #editor-box { height: 1fr; }
    ProfileView #threats-box { height: 8; }
    ProfileView #diff-box { height: 8; display: none; }
    .-tall ProfileView #diff-box { display: block; height: 1fr; }
    ProfileView.setting #threats-box { display: none; }
    .-tall ProfileView.setting #threats-box { display: block; }
    ProfileView.setting #diff-box { display: block; }
    ProfileView #asked { height: auto; max-height: 8; }
    ProfileView #why { height: auto; max-height: 4; color: $text-muted; }
    ProfileView.asking #choices { height: auto; max-height: 5; }
    .-tall ProfileView.asking #choices { max-height: 12; }
    ProfileView.asking #why { height: 1fr; max-height: 100%; content-align: left bottom; }
    ProfileView #threat { display: none; height: auto; max-height: 5; color: $text-muted; }
    ProfileView #threats-box:focus-within { height: 12; }
    ProfileView #threats-box:focus-within #threat { display: block; }
    .-flat ProfileView.asking #threats-box { height: 3; }
    .-flat ProfileView.asking #threats-box:focus-within { height: 8; }
    ProfileView #diff { height: auto; }
    """

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.new: NewProfile | None = None
        self.attack = ""
        """The attack whose parameters are edited; empty if none is."""
        self.shown: settings.Settings | None = None
        self._offered = False
        """Whether it was said that a profile is half made."""
        self.edited = ""
        """What the place at the right is for: a question, a section, `threats` or `attacks`."""

    def compose(self) -> ComposeResult:
        """Lay what there is at the left, and the place to change it at the right."""
        with Horizontal(classes="row"):
            with Vertical(id="left"):
                with Box(title="Profile", id="rail-box"):
                    yield Picks(id="rail")
                with Box(title="Profiles", id="saved-box"):
                    yield Picks(id="saved")
            with Vertical(id="right"):
                with Box(id="editor-box"):
                    yield Static("", id="asked", markup=False)
                    yield Picks(id="choices")
                    yield Form()
                    yield Static("", id="why", markup=False)
                with Box(title="Suggested threats", id="threats-box"):
                    yield Picks(id="threats")
                    yield Static("", id="threat", markup=False)
                with Box(title="YAML", id="diff-box"), Scroll():
                    yield Static("", id="diff", markup=False)

    @property
    def questions(self) -> tuple[Question, ...]:
        """The questions that are asked here."""
        return ASKED if self.new is not None else QUESTIONS

    @property
    def item(self) -> str:
        """What the cursor at the left stands on."""
        return self.chosen("rail")

    def paint(self) -> None:
        """Show everything anew."""
        self._paint_rail()
        self._paint_saved()
        self.paint_editor()
        self._paint_threats()
        self._paint_diff()
        self.status = self._sentence()
        self.refresh_bindings()

    def _paint_rail(self) -> None:
        rail = self.picks("rail")
        if self.new is not None:
            answers: dict[str, str] = self.new.answers
            rail.show([_answered(q, answers) for q in ASKED])
            self.query_one("#rail-box", Box).title(f"new: {self.new.name}", f"{len(self.new.open)} open")
            return
        draft = self.draft
        document = draft.document
        threats = found(document, ("threat_model",))
        answers = {k: str(v) for k, v in threats.items()} if isinstance(threats, dict) else {}
        picks = [] if draft.broken else [_answered(q, answers) for q in QUESTIONS]
        if not draft.broken:
            categories = found(threats, ("threat_categories",)) if isinstance(threats, dict) else None
            named = len(categories) if isinstance(categories, list) else 0
            picks.append(Pick("threats", _mark(named > 0), "threats".ljust(12), f"{named} covered"))
            for section, title in settings.SECTIONS.items():
                wrong = any(p.path.split(".")[0] == section for p in draft.problems)
                mark = "!" if wrong else _mark(document.get(section) is not None)
                picks.append(Pick(section, mark, title.ljust(12), _about(document, section)))
            wrong = any(p.path.startswith(("attack_overrides", "defense_config")) for p in draft.problems)
            chosen = len(drafts.attacks_of(draft))
            picks.append(Pick("attacks", "!" if wrong else _mark(chosen > 0), "attacks".ljust(12), f"{chosen} chosen"))
        rail.empty = "" if picks else "cannot be read"
        rail.show(picks)
        self.query_one("#rail-box", Box).title(draft.name, "shipped" if draft.shipped else "")

    def _paint_saved(self) -> None:
        own = self.frame.workspace.root / "profiles"
        known = self.frame.workspace.profiles()
        shown = "" if self.new is not None else self.draft.name
        picks = [
            Pick(name, sign("●") if name == shown else " ", name, "" if path.parent == own else "shipped")
            for name, path in sorted(known.items(), key=lambda item: (item[1].parent != own, item[0]))
        ]
        kept = self.kept()
        if kept is not None:
            mark = sign("●") if self.new is not None else " "
            picks.insert(0, Pick("", mark, kept.name, f"new, {len(kept.open)} open"))
        self.picks("saved").show(picks)
        if not self.picks("saved").has_focus:
            self.picks("saved").point_at(shown)

    def paint_editor(self) -> None:
        """Show the place for what the cursor at the left stands on."""
        item, choices, form = self.item, self.picks("choices"), self.query_one(Form)
        question = next((q for q in self.questions if q.id == item), None)
        setting = self.new is None and (bool(self.attack) or item in settings.SECTIONS)
        self.set_class(setting or item == "attacks", "setting")
        self.set_class(question is not None, "asking")
        form.display = setting
        choices.display = not setting and (question is not None or item == "attacks")
        title, asked = "", ""
        self.edited, before = item, self.edited
        if self.new is None and self.draft.broken:
            title, asked = "cannot be read", f"! {self.draft.broken}\n\ne opens your editor; o opens another profile."
        elif question is not None:
            number = QUESTION_IDS.index(item) + 1
            title = f"{number} of {len(self.questions)} · {SHORT[item]}"
            asked, answer = question.text, self.answers().get(item)
            chosen = f"({sign('•')})", "( )"
            choices.show([Pick(c.value, chosen[c.value != answer], c.value, c.help) for c in question.choices])
            if item != before:
                choices.point_at(answer or question.choices[0].value)
        elif item == "threats":
            title, asked = "threats", THREATS
        elif setting:
            self.shown = self._settings()
            title = self.attack or settings.SECTIONS[item]
            form.show(self.shown.fields, self.shown.values, self.shown.errors)
        elif item == "attacks":
            title, asked = "attacks", ATTACKS_TEXT
            there = drafts.attacks_of(self.draft)
            choices.show([Pick(s.name, _box(s.name in there), s.name, s.summary) for s in ATTACKS.values()])
        self._write("asked", asked)
        self.explain()
        self.query_one("#editor-box", Box).title(title, "esc back" if setting and self.attack else "")

    def explain(self) -> None:
        """Say in full what the line under the cursor means: an answer and why we ask, or an attack."""
        question = next((q for q in self.questions if q.id == self.item), None)
        pick = self.picks("choices").current if self.picks("choices").display else None
        text = f"{pick.value}: {pick.note}" if pick is not None else ""
        if question is not None:
            text += f"\nWhy we ask: {question.why}"
        self._write("why", text)

    def explain_threat(self) -> None:
        """Say in full what the threat under the cursor is, and why it is suggested or not."""
        pick = self.picks("threats").current
        self._write("threat", f"{CATEGORIES[pick.value].help}\n{pick.note}" if pick is not None else "")

    def _write(self, id: str, text: str) -> None:
        place = self.query_one(f"#{id}", Static)
        place.update(Text(printable(text)))
        if id != "threat":
            place.display = bool(text)

    def _settings(self) -> settings.Settings:
        return (
            settings.settings_of_attack(self.draft, self.attack)
            if self.attack
            else settings.settings_of(self.draft, self.item)
        )

    def _paint_threats(self) -> None:
        reasons = {s.category: s.reason for s in suggest(self.answers())}
        covered = self.covered()
        picks = []
        for category in CATEGORIES.values():
            how = "" if category.simulated else "; not simulated: a check by hand"
            reason = reasons.get(category.name, "your choice" if category.name in covered else "not suggested")
            left_out = category.name in reasons and category.name not in covered
            note = f"{'suggested: ' if left_out else ''}{reason}{how}"
            picks.append(Pick(category.name, _box(category.name in covered), category.name, note))
        self.picks("threats").show(picks)
        self.explain_threat()

    def _paint_diff(self) -> None:
        lines = drafts.difference("", self.new.preview()) if self.new else self.draft.diff()
        lines = lines[1:] if self.new else lines
        text = Text()
        for line in lines:
            style = {"+": "green", "-": "red"}.get(line[:1], "dim")
            text.append(printable(line) + "\n", style=style)
        what = "YAML that will be written" if self.new else "YAML: changes since it was opened"
        self.query_one("#diff-box", Box).title(what, "v shows all")
        self.query_one("#diff", Static).update(text if lines else Text("no changes", style="dim"))

    def answers(self) -> dict[str, str]:
        """Return the answers that are shown, question id to value."""
        if self.new is not None:
            return self.new.answers
        threats = self.draft.document.get("threat_model")
        return {str(k): v for k, v in threats.items() if isinstance(v, str)} if isinstance(threats, dict) else {}

    def covered(self) -> list[str]:
        """Return the threat categories that the profile covers."""
        if self.new is not None:
            return self.new.categories
        named = found(self.draft.document, ("threat_model", "threat_categories"))
        return [str(n) for n in named] if isinstance(named, list) else []

    def _sentence(self) -> str:
        if self.new is not None:
            open_ = len(self.new.open)
            return f"{self.new.name} is not written yet: {open_} question{'s' * (open_ != 1)} open"
        draft = self.draft
        if draft.broken:
            return f"{draft.path.name} cannot be read; e opens your editor"
        if draft.problems:
            first = draft.problems[0]
            more = f" and {len(draft.problems) - 1} more" if len(draft.problems) > 1 else ""
            return f"{'not saved' if draft.unsaved else 'not valid'}: {first.path}: {first.message}{more}"
        assert draft.profile is not None
        if draft.profile.missing:
            return f"cannot run yet; {draft.profile.missing[0]}"
        if absent := absent_files(draft.profile, self.frame.workspace.root):
            return f"valid, but {absent[0]}"
        where = "shipped: your first change makes a copy" if draft.shipped else f"saved in profiles/{draft.path.name}"
        defenses = sum(len(a.defenses) for a in draft.profile.attacks)
        attacks = len(draft.profile.attacks)
        return f"valid · {attacks} attack{'s' * (attacks != 1)}, {defenses} defense{'s' * (defenses != 1)} · {where}"

    def kept(self) -> NewProfile | None:
        """Return the profile that was begun and not finished."""
        kept = self.frame.memory.get(f"new profile {self.frame.workspace.root}", {})
        return NewProfile(str(kept["name"]), dict(kept["answers"])) if kept.keys() == {"name", "answers"} else None


def _answered(question: Question, answers: dict[str, str]) -> Pick:
    answer = answers.get(question.id)
    return Pick(question.id, _mark(answer in question.values), SHORT[question.id].ljust(12), answer or "")


def _about(document: dict[Any, Any], section: str) -> str:
    values = document.get(section)
    if not isinstance(values, dict):
        return "defaults" if section in ("training", "acceptance") else "missing"
    if section == "training":
        return f"{values['epochs']} epochs" if values.get("epochs") is not None else "set"
    return str(values.get("name") or name_after(str(values.get("path") or "set")))


def _mark(done: bool) -> str:
    return sign("✓" if done else "·")


def _box(ticked: bool) -> str:
    return "[x]" if ticked else "[ ]"
