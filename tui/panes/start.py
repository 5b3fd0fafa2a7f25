"""Starting drivers: a profile that is picked, the demo, or the rest of an experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from safedl.errors import SafedlError
from safedl.text import duration
from tui.services.follow import SCAN, ExperimentState
from tui.widgets.modal import Choice, Dialog, Option, Picker
from tui.widgets.pane import Pane

if TYPE_CHECKING:
    from tui.app import SafedlApp

DEMO = "digits"


def ask_for_profile(app: SafedlApp, title: str, then: Callable[[str, Path], None]) -> None:
    """Let a profile be picked, the workspace's own first, and call `then` with its name and file."""
    own, profiles = app.workspace.root / "profiles", app.workspace.profiles()
    options = [
        Option(f"{name[:60]}   {'yours' if path.parent == own else 'shipped'}", name)
        for name, path in sorted(profiles.items(), key=lambda item: (item[1].parent != own, item[0]))
    ]

    def chosen(name: str | None) -> None:
        if name is not None:
            then(name, profiles[name])

    app.push_screen(Picker(title, options), chosen)


class StartMixin(Pane):
    """A pane that starts drivers. They are processes of their own and outlive the app."""

    experiment: ExperimentState | None
    starting = ""
    """What is being started, for the status line: loading takes a while."""
    _began = 0.0
    _cancelled = False
    """Whether the start was cancelled: its end is then no error."""

    def show_experiment(self, uid: str, *, chosen: bool = True) -> None:
        """Show an experiment."""
        raise NotImplementedError

    def start_line(self) -> str:
        """Say what is being started, for how long, and what can be done about it; empty if nothing is."""
        if not self.starting:
            return ""
        seconds = duration(max(0.0, self.frame.clock() - self._began))
        return f"{self.starting} {seconds} · X cancels the start · loading libraries, then data"

    def cancel_start(self) -> None:
        """End the driver that is being started, after a question."""
        what = self.starting.removesuffix(" …")

        def stopped(there: bool) -> None:
            if not there:
                self._cancelled = False
                self.frame.say("it has begun meanwhile; X cancels the experiment")

        def chosen(choice: str | None) -> None:
            if choice is not None:
                self._cancelled = True
                self.frame.ask(self, "stop", self.frame.workspace.stop_starting, stopped, "cancel the start")

        dialog = Dialog(f"Cancel {what}?", "Nothing has run yet.", (Choice("x", "cancel it", "yes"),), safe="leave it")
        self.frame.push_screen(dialog, chosen)

    def start_profile(self, name: str, path: Path) -> None:
        """Start a driver for a profile, follow it, and let the other panes show that profile too."""
        if self.starting:
            self.frame.say(f"{self.starting}; one at a time")
            return
        from tui.services import drafts  # the app starts without it

        with suppress(SafedlError):  # a profile that is gone is told when it cannot be started
            shown = drafts.current(self.frame)
            if shown.name != name and not shown.unsaved:
                drafts.choose(self.frame, name)
        self.starting = f"starting {name} …"
        self.frame.say(f"starting {name}: loading takes some seconds")
        self._launch(lambda: self.frame.workspace.start(path), f"start {name}")

    def action_start(self) -> None:
        """Pick a profile and run it."""
        ask_for_profile(self.frame, "Run a profile", self.start_profile)

    def action_demo(self) -> None:
        """On the first start, run the demo."""
        self.start_profile(DEMO, self.frame.workspace.find_profile(DEMO))

    def start_scan(self, values: Mapping[str, str | None]) -> None:
        """Start a driver that scans `data`, by what is `trusted`, a `model` and its `weights`, and follow it."""
        if self.starting:
            self.frame.say(f"{self.starting}; one at a time")
            return
        self.starting = "starting the scan …"
        self.frame.say("starting the scan: loading takes some seconds")
        workspace, data = self.frame.workspace, values["data"] or ""
        trusted, model, weights = values["trusted"], values["model"], values["weights"]
        self._launch(lambda: workspace.start_scan(data, trusted, model, weights), "start the scan")

    def scanned(self) -> str | None:
        """Return the uid of the run that can be reviewed: a scan that has ended."""
        stages = self.experiment.stages.values() if self.experiment is not None else ()
        return next((s.uid for s in stages if s.kind == SCAN and s.status in ("completed", "linked")), None)

    async def action_review(self) -> None:
        """Review the suspects of the scan that is shown."""
        uid = self.scanned()
        if uid is not None:
            await self.frame.open_review(uid)

    async def action_new_profile(self) -> None:
        """Ask for a new profile's name, then its questions, in the pane for it."""
        await self.frame.action_go("profile")
        await self.frame.run_action("new", self.frame.pane)

    def action_resume(self) -> None:
        """Go on with the experiment that is shown: finished stages are kept."""
        state = self.experiment
        if state is None:
            return
        uid = state.uid
        if self.starting or uid in self.frame.hub.running:
            self.frame.say(f"{self.starting}; one at a time" if self.starting else "it is running already")
            return
        self.starting = f"resuming {state.name or uid} …"

        def resume() -> str:
            self.frame.workspace.resume(uid)
            return uid

        self._launch(resume, "resume it")

    def _launch(self, start: Callable[[], str], doing: str) -> None:
        def started(uid: str) -> None:
            self.starting = ""
            self.frame.hub.look_now()
            self.show_experiment(uid)

        self._began, self._cancelled = self.frame.clock(), False

        def failed(error: Exception) -> None:
            what, self.starting = self.starting.removesuffix(" …"), ""
            self.tick()  # what stands behind a dialog is not painted again
            if self._cancelled:
                self.frame.say(f"cancelled: {what}")
            else:
                self.frame.show_error(error, doing)

        self.frame.ask(self, "start", start, started, doing, failed)
