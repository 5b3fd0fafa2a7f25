"""The Profile pane: questions about threats, what they suggest, and all settings of a profile."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import ClassVar

from textual.binding import Binding, BindingType

from safedl.catalog import ATTACKS
from safedl.errors import SafedlError
from tui.panes.editing import before_changes_are_lost
from tui.panes.profile_view import QUESTION_IDS, ProfileView
from tui.services import drafts, settings
from tui.services.questionnaire import ASKED, NewProfile
from tui.widgets.fillin import FillIn, Line, Values
from tui.widgets.form import Form
from tui.widgets.lines import Lines
from tui.widgets.modal import Dialog, Option, Picker
from tui.widgets.picks import Picks


class ProfilePane(ProfileView):
    """One profile: what was asked and set at the left, the place to answer at the right."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("n", "new", "new"),
        Binding("e", "editor", "editor"),
        Binding("u", "undo", "undo"),
        Binding("v", "changes", "Show what has changed in the file", show=False),
        Binding("o", "open", "Open another profile", show=False),
        Binding("R", "run", "Run this profile", show=False, key_display="R"),
        Binding("escape", "back", "Back to the list", show=False),
        Binding("l,right", "enter_editor", "Answer, or edit", show=False),
        Binding("h,left", "back", "Back to the list", show=False),
    ]
    HELP = """\
What is attacked, and who might attack it. The seven questions suggest threats; those that you cover become attacks \
to simulate. Everything is saved at once when it is valid; u takes the last change back, and the text from before \
your first change is kept beside the file as .bak. On the command line: safedl profile new, check, show."""

    def opened(self) -> None:
        """Read the profile again if someone has changed it; at the first visit, offer what was begun before."""
        self.paint()
        kept = self.kept()
        if not self._offered and kept is not None and self.new is None:
            self.status = f"{kept.name} is half answered, {len(kept.open)} questions open; o goes on with it"
            self.frame.say(self.status)
        self._offered = True
        self.picks("rail").focus()

    # --- moving

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Follow the cursor at the left; explain a threat."""
        if event.lines.id == "rail" and self.item != self.edited:
            self.attack = ""
            self.paint_editor()
        elif event.lines.id == "choices":
            self.explain()
        elif event.lines.id == "threats":
            self.explain_threat()

    def action_enter_editor(self) -> None:
        """Go to the place for what the cursor at the left stands on."""
        if self.item == "threats":
            self.picks("threats").focus()
        elif self.query_one(Form).display:
            self.query_one(Form).lines.focus()
        elif self.picks("choices").display:
            self.picks("choices").focus()
            self.picks("choices").point_at(self.answers().get(self.item, ""))

    def action_back(self) -> None:
        """Go back to the list of attacks, or to the left."""
        if self.attack:
            name, self.attack = self.attack, ""
            self.paint_editor()
            self.picks("choices").focus()
            self.picks("choices").point_at(name)
        else:
            self.picks("rail").focus()

    def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Enter: answer a question, cover a threat, edit an attack, open a profile."""
        pick = event.lines.current if isinstance(event.lines, Picks) else None
        match event.lines.id:
            case "rail":
                self.action_enter_editor()
            case "choices" if pick and self.item == "attacks":
                if pick.value not in drafts.attacks_of(self.draft):
                    self._tick(pick.value)
                self.attack = pick.value
                self.paint_editor()
                self.query_one(Form).lines.focus()
            case "saved" if pick:
                self.open_profile(pick.value)
            case "threats" if pick:
                self._toggle_threat(pick.value)
            case _ if pick:
                self._tick(pick.value)

    def on_picks_ticked(self, event: Picks.Ticked) -> None:
        """Space: answer a question, cover a threat, add an attack."""
        if event.lines.id == "rail":
            self.action_enter_editor()
        elif event.lines.id == "saved":
            self.open_profile(event.pick.value)
        elif event.lines.id == "threats":
            self._toggle_threat(event.pick.value)
        else:
            self._tick(event.pick.value)

    # --- changing

    def _tick(self, value: str) -> None:
        if self.item == "attacks":
            there, spec = drafts.attacks_of(self.draft), ATTACKS[value]
            change = drafts.removed if value in there else drafts.added
            self.change(change(self.draft.document, [spec]))
        else:
            self._answer(self.item, value)

    def _answer(self, question: str, value: str) -> None:
        """Take an answer and go to the next question; what is none of its choices never reaches the file."""
        if not any(q.id == question and value in q.values for q in self.questions):
            return
        if self.new is not None:
            self.new.answers.pop(question, None)  # the last answer is the one that is taken back first
            self.new.answers[question] = value
            self._keep(self.new)
            if not self.new.open:
                self._write_new(self.new)
                return
        else:
            self.change({("threat_model", question): value})
        asked = self.questions
        place = QUESTION_IDS.index(question) + 1
        following = asked[place].id if place < len(asked) else self.new.open[0].id if self.new else "threats"
        self.picks("rail").point_at(following)
        self.paint()
        self.action_enter_editor()

    def _toggle_threat(self, threat: str) -> None:
        if self.new is not None:
            self.frame.say("answer the questions first; then threats can be chosen")
        else:
            self.change(drafts.cover(self.draft.document, threat, covered=threat not in self.covered()))

    def on_form_changed(self, event: Form.Changed) -> None:
        """Take what was entered into a form."""
        if self.shown is not None:
            self.change(settings.changes(self.draft, self.shown, event.name, event.value, reset=event.reset))

    def action_undo(self) -> None:
        """Take the last change back, or the last answer of a new profile."""
        if self.new is None:
            super().action_undo()
        elif self.new.answers:
            question, _ = self.new.answers.popitem()
            self._keep(self.new)
            self.picks("rail").point_at(question)
            self.paint()
            self.action_enter_editor()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what does something: a new profile has no file yet, and at first no answer to take back."""
        if self.new is not None and action in ("editor", "run", "undo"):
            return action == "undo" and bool(self.new.answers)
        return super().check_action(action, parameters)

    def action_changes(self) -> None:
        """Show all changes since the profile was opened, or what will be written."""
        text = self.new.preview() if self.new else "\n".join(self.draft.diff()) or "no changes"
        self.frame.push_screen(Dialog("What will be written" if self.new else "Changes since it was opened", text))

    def action_editor(self) -> None:
        """Open the file in $EDITOR; what comes back is checked."""
        draft, copied = self.draft, self.draft.shipped
        command: list[str] = []
        try:
            command = shlex.split(os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi")
            path = draft.own()
            with self.frame.suspend():
                subprocess.run([*command, str(path)], check=False)
        except (OSError, ValueError) as error:
            self.frame.say(f"cannot start {command[0] if command else 'the editor'}: {error}", severe=True)
        except SafedlError as error:
            self.frame.show_error(error, "copy the profile into the workspace")
            return
        self.attempt(lambda: draft.edited(copied=copied), "read the profile")
        self.frame.refresh()

    # --- other profiles

    def open_profile(self, name: str) -> None:
        """Show another profile; the empty name is the one that is being made."""
        if name and name != self.draft.name:
            before_changes_are_lost(self.frame, "open another", lambda: self._open(name))
        else:
            self._open(name)

    def _open(self, name: str) -> None:
        self.new, self.attack = (self.kept() if not name else None), ""
        if name:
            self.attempt(lambda: drafts.choose(self.frame, name), "open the profile")
        self.paint()
        self.picks("rail").focus()
        self.picks("rail").cursor = 0

    def action_open(self) -> None:
        """Pick a profile."""

        def chosen(name: str | None) -> None:
            if name is not None:
                self.open_profile(name)

        picks = self.picks("saved").picks
        self.frame.push_screen(
            Picker("Open a profile", [Option(f"{p.text}   {p.note}", p.value) for p in picks]), chosen
        )

    def action_new(self) -> None:
        """Ask for a name, then the questions."""

        def check(values: Values) -> str | None:
            return drafts.name_problem(self.frame.workspace, values["name"]) or None

        def named(values: Values | None) -> None:
            if values is None:
                return
            self.new = NewProfile(values["name"])
            self._keep(self.new)
            self.open_profile("")
            self.action_enter_editor()

        line = Line("name", "Name", example="for example: entrance_camera")
        intro = f"It becomes a file in profiles/. {len(ASKED)} questions follow, with what each is for."
        self.frame.push_screen(FillIn("New profile", [line], intro=intro, check=check), named)

    def _write_new(self, new: NewProfile) -> None:
        try:
            new.write(self.frame.workspace)
        except SafedlError as error:
            self.frame.show_error(error, "write the profile")
            return
        self._keep(None)
        self.new = None

        def show() -> None:
            self._open(new.name)
            self.frame.say(f"{new.name} is written; choose threats here, then defenses with 3")
            self.picks("rail").point_at("threats")
            self.paint_editor()
            self.picks("threats").focus()

        self.paint()
        before_changes_are_lost(self.frame, f"show {new.name}, which is written", show)

    def _keep(self, new: NewProfile | None) -> None:
        value = {"name": new.name, "answers": [list(pair) for pair in new.answers.items()]} if new else {}
        self.frame.memory.set(f"new profile {self.frame.workspace.root}", value)
