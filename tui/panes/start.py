"""Starting drivers: a profile that is picked, the demo, or the rest of an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType

from tui.services.follow import SCAN, ExperimentState
from tui.widgets.fillin import FillIn, Line, Values
from tui.widgets.modal import Option, Picker
from tui.widgets.pane import Pane

DEMO = "digits"
SCAN_INTRO = """\
Is the data that you were sent, or the model that you downloaded, poisoned? Only the first line is needed; data that \
you trust makes the scan see more."""
PATHS = ("data", "trusted", "weights")


class StartMixin(Pane):
    """A pane that starts drivers. They are processes of their own and outlive the app."""

    experiment: ExperimentState | None
    starting = ""
    """What is being started, for the status line: loading takes a while."""
    scan_values: Values = MappingProxyType({})
    """What was last asked to be scanned: mended and tried again, it need not be typed anew."""

    def show_experiment(self, uid: str, *, chosen: bool = True) -> None:
        """Show an experiment."""
        raise NotImplementedError

    def start_profile(self, name: str, path: Path, arguments: tuple[str, ...] = ()) -> None:
        """Start a driver for a profile and follow it."""
        if self.starting:
            self.frame.say(f"{self.starting}; one at a time")
            return
        self.starting = f"starting {name} …"
        self.frame.say(f"starting {name}: loading takes some seconds")
        self._launch(lambda: self.frame.workspace.start(path, arguments), f"start {name}")

    def action_start(self) -> None:
        """Pick a profile and run it."""
        own = self.frame.workspace.root / "profiles"
        profiles = self.frame.workspace.profiles()
        options = [
            Option(f"{name[:60]}   {'yours' if path.parent == own else 'shipped'}", name)
            for name, path in sorted(profiles.items(), key=lambda item: (item[1].parent != own, item[0]))
        ]

        def chosen(name: str | None) -> None:
            if name is not None:
                self.start_profile(name, profiles[name])

        self.frame.push_screen(Picker("Run a profile", options), chosen)

    def action_demo(self) -> None:
        """On the first start, run the demo."""
        self.start_profile(DEMO, self.frame.workspace.find_profile(DEMO))

    def ask_for_scan(self) -> None:
        """Ask for data and model, and scan them."""
        from safedl.catalog.models import MODELS

        written = self.scan_values
        lines = [
            Line("data", "Data to scan", written.get("data", ""), "a folder of images, or an .npz file"),
            Line("trusted", "Data that you trust", written.get("trusted", ""), "the same, clean; may be empty"),
            Line("model", "Model", written.get("model", ""), f"{', '.join(MODELS)}, or a module.py; may be empty"),
            Line("weights", "Its weights", written.get("weights", ""), "a file; empty: it is trained on the data"),
        ]

        def taken(values: Values | None) -> None:
            if values is not None:
                self.scan_values = values
                self._start_scan(values)

        self.frame.push_screen(FillIn("Scan", lines, intro=SCAN_INTRO, check=_objection), taken)

    def _start_scan(self, values: Values) -> None:
        if self.starting:
            self.frame.say(f"{self.starting}; one at a time")
            return
        self.starting = "starting the scan …"
        self.frame.say("starting the scan: loading takes some seconds")
        paths = {name: str(_path(values[name])) if values[name] else None for name in PATHS}
        model = values["model"] or None
        if model is not None and _path(model).is_file():
            model = str(_path(model))
        workspace, data = self.frame.workspace, paths["data"]
        assert data is not None
        self._launch(lambda: workspace.start_scan(data, paths["trusted"], model, paths["weights"]), "start the scan")

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
        if state is None or self.starting:
            return
        uid = state.uid
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

        def failed(error: Exception) -> None:
            self.starting = ""
            self.frame.show_error(error, doing)

        self.frame.ask(self, "start", start, started, doing, failed)


def _path(text: str) -> Path:
    return Path(text).expanduser().absolute()


def _objection(values: Values) -> str | None:
    """Return what is wrong with what was written, as far as files tell."""
    if not values["data"]:
        return "name the data to scan"
    missing = [values[name] for name in PATHS if values[name] and not _path(values[name]).exists()]
    return f"there is no {', no '.join(missing)}" if missing else None
