"""What the panes share that show the edited profile: the draft, its lists, changing it, running it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from safedl.errors import SafedlError
from tui.panes.start import StartMixin
from tui.services import drafts
from tui.services.drafts import Draft
from tui.widgets.modal import Choice, Dialog
from tui.widgets.pane import Pane
from tui.widgets.picks import Picks

if TYPE_CHECKING:
    from tui.app import SafedlApp


def before_changes_are_lost(
    app: SafedlApp, what: str, then: Callable[[], None], stay: Callable[[], None] = lambda: None
) -> None:
    """Call `then`; if that drops changes that are not saved, because a value is not valid, ask first, or `stay`."""
    draft = app.draft
    if draft is None or not draft.unsaved:
        then()
        return
    first = draft.problems[0]
    body = f"{first.path}: {first.message}\n\nUntil that is mended, nothing that is changed is saved."
    choices = (Choice("l", f"{what}: what is not saved is lost", "yes"),)

    def chosen(choice: str | None) -> None:
        (stay if choice is None else then)()

    app.push_screen(Dialog(f"{draft.name} has changes that are not saved", body, choices, safe="stay"), chosen)


class EditingPane(Pane):
    """A pane about the profile that all of them show."""

    @property
    def draft(self) -> Draft:
        """The profile that is shown."""
        return drafts.current(self.frame)

    def picks(self, id: str) -> Picks:
        """Return one of the lists."""
        return self.query_one(f"#{id}", Picks)

    def chosen(self, id: str) -> str:
        """Return what the cursor of a list stands on, empty if it has no lines."""
        pick = self.picks(id).current
        return pick.value if pick else ""

    def paint(self) -> None:
        """Show everything anew."""
        raise NotImplementedError

    def change(self, changes: Mapping[tuple[str, ...], Any]) -> None:
        """Change the profile; say so if that made a copy of a shipped one."""
        draft, shipped = self.draft, self.draft.shipped
        self.attempt(lambda: draft.change(changes), "save the profile")
        if shipped and not draft.shipped:
            self.frame.say(f"{draft.name} came with Safe-DL; your copy is {draft.path.name} in profiles/")

    def attempt(self, action: Callable[[], object], doing: str) -> None:
        """Do something to the profile and show what it is now; an error opens a dialog."""
        try:
            action()
        except SafedlError as error:
            self.frame.show_error(error, doing)
        self.paint()

    def action_undo(self) -> None:
        """Take the last change back."""
        draft = self.draft
        self.attempt(
            lambda: self.frame.say("taken back" if draft.undo() else "nothing to take back"), "take the change back"
        )

    async def action_run(self) -> None:
        """Start the profile as its file stands, and go where it can be watched; say why if it cannot run."""
        draft = self.draft
        reason = draft.broken
        if not reason and draft.profile is None:
            reason = f"{draft.problems[0].path}: {draft.problems[0].message}"
        if not reason and draft.profile is not None and draft.profile.missing:
            reason = draft.profile.missing[0]
        if reason:
            self.frame.say(f"not started: {reason}", severe=True)
            return
        await self.frame.action_go("run")
        pane = self.frame.pane
        if isinstance(pane, StartMixin):
            pane.start_profile(draft.name, draft.path)
