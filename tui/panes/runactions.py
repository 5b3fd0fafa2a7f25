"""What can be done to the run under the cursor of the Runs pane."""

from __future__ import annotations

from tui.panes.takeout import ask_for_export
from tui.services.follow import SCAN
from tui.widgets.modal import Choice, Dialog
from tui.widgets.pane import Pane
from tui.widgets.runtable import RunTable


class RunActions(Pane):
    """A pane with a list of runs."""

    @property
    def table(self) -> RunTable:
        """The list."""
        return self.query_one(RunTable)

    def action_reload(self) -> None:
        """Read the runs again."""
        raise NotImplementedError

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what is done to a run where there is one."""
        if action in ("mark", "retry", "review", "take_home", "delete", "copy", "experiment", "sort", "turn", "tab"):
            return not self.has_class("-empty")
        return super().check_action(action, parameters)

    def action_copy(self) -> None:
        """Copy the uid of the run under the cursor."""
        if self.table.current is not None:
            self.frame.copy(self.table.current.record.uid)

    async def action_experiment(self) -> None:
        """Show the experiment of the run in the Run pane."""
        row = self.table.current
        if row is not None and row.record.experiment is not None:
            await self.frame.open_experiment(row.record.experiment)

    async def action_review(self) -> None:
        """Show the suspects of the scan under the cursor."""
        row = self.table.current
        if row is None:
            return
        if row.record.kind == SCAN and row.status == "completed":
            await self.frame.open_review(row.record.uid)
        else:
            self.frame.say("only a scan that is done has suspects to review")

    def action_take_home(self) -> None:
        """Ask where the data and the model of the run under the cursor go."""
        row = self.table.current
        if row is not None and row.status == "completed":
            ask_for_export(self.frame, row.record.uid)
        elif row is not None:
            self.frame.say("only a run that is done has something to take home")

    async def action_retry(self) -> None:
        """Go on with the run's experiment: what is done is kept, all else runs as new attempts."""
        row = self.table.current
        if row is None or row.record.experiment is None:
            return
        if row.status == "completed":
            self.frame.say("this run is done; it would only be linked")
            return
        await self.frame.open_experiment(row.record.experiment, resume=True)

    def action_delete(self) -> None:
        """Delete the run under the cursor, after a question."""
        row = self.table.current
        if row is None:
            return
        uid, workspace = row.record.uid, self.frame.workspace

        def deleted(_: None) -> None:
            self.frame.marked.discard(uid)
            self.frame.remember_marks()
            self.frame.say(f"deleted {uid}")
            self.action_reload()

        def chosen(choice: str | None) -> None:
            if choice is not None:
                self.frame.ask(self, f"delete {uid}", lambda: workspace.delete_run(uid), deleted, f"delete run {uid}")

        body = f"{row.record.stage}\n\nIts row and its folder go for good; published copies stay."
        self.frame.push_screen(
            Dialog(f"Delete {uid}?", body, (Choice("X", "delete it", "yes"),), safe="keep it"), chosen
        )
