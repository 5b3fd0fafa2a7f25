"""The Run pane: the plan of an experiment while it runs, its curves and its log; and those that have run."""

from __future__ import annotations

from time import monotonic
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.widgets import Static

from safedl.events import HEADLINES
from safedl.store.records import OPEN
from safedl.text import duration, one_line, shown
from tui.panes.start import StartMixin
from tui.services.follow import ExperimentState, StageState, past, stage_order, tally
from tui.services.gpu import gpu_line
from tui.states import look
from tui.widgets.chart import NONE_YET, Chart, Curve
from tui.widgets.filter import FilterBar
from tui.widgets.lines import Lines
from tui.widgets.logview import LogView
from tui.widgets.modal import Choice, Dialog, Option, Picker
from tui.widgets.pane import Box
from tui.widgets.plantree import PlanTree

WELCOME = """\
Safe-DL attacks your image classifier, tries defenses, and measures both.
Every run is kept: what hurts, what helps, what it costs, may it ship?
Nothing has run here yet.

  enter  run the demo: digits, four attacks; minutes on a CPU
  r      run one of the profiles
  s      scan data that you were sent, or a model"""
NEW_PROFILE = "  n      make a profile of your own, by questions"
GPU_INTERVAL = 5.0
BEFORE = "done in an earlier start; enter opens it"
CURVES_INTERVAL = 1.0
"""Seconds between drawings of curves that grow: each is thousands of bytes on the wire."""


class RunPane(StartMixin):
    """Plan, curves and log of one experiment."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "demo", "run the demo"),
        Binding("r", "start", "run"),
        Binding("x", "cancel_stage", "cancel stage"),
        Binding("a", "attach", "experiments"),
        Binding("X", "cancel_all", "Cancel the experiment", show=False, key_display="X"),
        Binding("R", "resume", "resume", key_display="R"),
        Binding("f", "follow", "Follow: the running stage, the log's end", show=False),
        Binding("slash", "find", "Find in the log", show=False, key_display="/"),
        Binding("escape", "back", "End the search; back to the plan", show=False),
        Binding("y", "copy", "Copy the run's uid", show=False),
        Binding("n", "new_profile", "New profile", show=False),
        Binding("s", "app.scan", "Scan data of your own", show=False),
        Binding("v", "review", "review"),
    ]
    DEFAULT_CSS = """
    RunPane #plan-box { width: 5fr; }
    RunPane #curves-box { width: 4fr; }
    RunPane #log-box { height: 2fr; }
    RunPane #top { height: 3fr; }
    RunPane #outcome { height: auto; max-height: 3; }
    RunPane #welcome { height: 1fr; padding: 1 2; display: none; }
    RunPane.empty #top, RunPane.empty #log-box { display: none; }
    RunPane.empty #welcome { display: block; }
    """
    HELP = """\
The plan of an experiment as it runs. The cursor chooses whose curves you see; enter opens a run that has ended.

Closing the app stops nothing: each experiment is a process of its own. \
a shows them all, also those that were started elsewhere or have ended."""

    def __init__(self, id: str) -> None:
        super().__init__(id=id)
        self.experiment: ExperimentState | None = None
        self._painted: tuple[object, ...] = ()
        self.paints = 0
        """How often the pane was repainted: five times a second at most."""
        self._logged = 0
        self._follows = True
        self._gpu = ""
        self._chosen = self._knows = False
        """Whether the experiment was chosen by the person, and whether what runs was known when one was shown."""
        self._stale, self._drawn = False, float("-inf")
        """Whether the curves have grown since they were drawn, and when that was."""
        self._outcome = ""
        self._offered: tuple[object, ...] = ()

    def compose(self) -> ComposeResult:
        """Plan and curves side by side, the log below."""
        yield Static("", id="welcome", markup=False)
        with Horizontal(classes="row", id="top"):
            with Box(title="Plan", id="plan-box"):
                yield PlanTree()
            with Box(title="Curves", id="curves-box"):
                yield Chart(id="loss")
                yield Chart(id="accuracy")
                yield Static("", id="outcome", markup=False)
        with Box(title="Log", id="log-box"):
            yield FilterBar("find in the log; enter, then n and N", id="find")
            yield LogView(id="log")

    def on_mount(self) -> None:
        """Ask the GPUs now and then."""
        self.set_interval(GPU_INTERVAL, self._look_at_gpu)
        self._look_at_gpu()

    def opened(self) -> None:
        """Show what runs, else what ran last."""
        welcome = WELCOME + ("\n" + NEW_PROFILE if "profile" in self.frame.specs else "")
        self.query_one("#welcome", Static).update(welcome)
        self._choose()
        if not self.has_class("empty"):
            self.query_one(PlanTree).focus()
        self.tick()

    def _choose(self) -> None:
        """Without a choice of the person's, follow the newest experiment that runs, else the newest of all."""
        if self._chosen and self.experiment is not None:
            return
        running = sorted(self.frame.hub.running)
        known = running or self.frame.workspace.experiments()[-1:]
        was_empty = self.has_class("empty")
        self.set_class(not known and not self.starting, "empty")
        if was_empty != self.has_class("empty"):
            self.refresh_bindings()
        if known and (self.experiment is None or (running and self.experiment.uid not in running)):
            self.show_experiment(known[-1], chosen=False)

    def show_experiment(self, uid: str, *, chosen: bool = True) -> None:
        """Show an experiment, running or past."""
        self._chosen = chosen
        self.remove_class("empty")
        self.experiment = self.frame.hub.follow(uid)
        self._painted, self._logged, self._follows, self._drawn = (), 0, True, float("-inf")
        tree, log = self.query_one(PlanTree), self.query_one("#log", LogView)
        log.following = True
        log.set_lines([])
        with tree.prevent(Lines.Moved):  # nobody has chosen a stage of this one yet
            tree.cursor = 0
        if self.frame.pane is self:  # a driver may take seconds to start, and somebody types elsewhere meanwhile
            tree.focus()
        self.tick()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer what can be done at present."""
        match action:
            case "demo":
                return self.has_class("empty")
            case "cancel_stage":
                return self._is_running()
            case "cancel_all":
                return self._is_running() or bool(self.starting)
            case "resume":
                ended = self.experiment is not None and not self._is_running() and not self.starting
                return ended and self.experiment is not None and self.experiment.state != "completed"
            case "review":
                return self.scanned() is not None
            case "find" | "follow" | "copy" | "back":
                return self.experiment is not None
            case "new_profile":
                return "profile" in self.frame.specs
            case _:
                return super().check_action(action, parameters)

    # --- painting

    def tick(self) -> None:
        """Repaint what has changed."""
        if self.experiment is None or self.has_class("empty") or not self._knows:
            self._knows = self.frame.hub.looked
            self._choose()
        state = self.experiment
        if state is None:
            self.query_one("#plan-box", Box).title(self.starting or "Plan")
            self.status = self.start_line() or "nothing has run in this workspace"
            return
        now = int(self.frame.clock())
        if self._stale and monotonic() >= self._drawn + CURVES_INTERVAL:
            self._paint_curves()
        running = self._is_running()
        self._note_log()
        key = (state.uid, state.version, now if running else 0, self._gpu, self.start_line())
        if key == self._painted:
            return
        self._painted = key
        self._paint_plan(state)
        self._paint_log(state)
        self.paints += 1
        self._stale = True
        self.status = self._sentence(state)
        if self._offered != (offered := (state.uid, state.state, running, self.starting)):
            self._offered = offered
            self.refresh_bindings()

    def _paint_plan(self, state: ExperimentState) -> None:
        tree = self.query_one(PlanTree)
        tree.state, tree.stages = state, stage_order(state)
        tree.changed()
        if self._follows:
            position = next((i for i, s in enumerate(tree.stages) if s.status == "running"), tree.cursor)
            if position != tree.cursor:
                with tree.prevent(Lines.Moved):
                    tree.cursor = position
        shape = look(state.state)
        others = len(self.frame.hub.running) - (state.uid in self.frame.hub.running)
        more = f" · {others} more running (a)" if others > 0 else ""
        box = self.query_one("#plan-box", Box)
        box.title(f"{state.name or state.uid} · {shape.glyph} {shape.word}{more}", state.uid)

    def _paint_log(self, state: ExperimentState) -> None:
        log = self.query_one("#log", LogView)
        new = min(state.logged - self._logged, len(state.log))
        if new > 0:
            if self._logged == 0:
                log.set_lines(state.log)
            else:
                log.add(list(state.log)[-new:])
            self._logged = state.logged

    def _note_log(self) -> None:
        """Say where in the log one is; that changes by keys too."""
        log = self.query_one("#log", LogView)
        note = f"↓ {log.unseen} new (G)" if log.unseen else "following" if log.following else "f follows"
        self.query_one("#log-box", Box).title("Log", note)

    def _paint_curves(self) -> None:
        self._stale, self._drawn = False, monotonic()
        stage = self.query_one(PlanTree).current
        if stage is None:
            return
        groups: dict[str, list[Curve]] = {"loss": [], "accuracy": []}
        for name, points in stage.curves.items():
            phase, _, measure = name.rpartition(".")
            group = measure if measure in groups else min(groups, key=lambda g: len(groups[g]))
            groups[group].append(Curve(f"{measure} ({phase})" if phase else measure, tuple(points)))
        for group, curves in groups.items():
            linked = stage.status == "linked" and not stage.curves
            none = ("" if group == "accuracy" else BEFORE) if linked else NONE_YET
            self.query_one(f"#{group}", Chart).show(curves[-3:], none)
        self.query_one("#curves-box", Box).title(stage.id, "z zoom")
        outcome = _outcome(stage)
        if outcome != self._outcome:  # an update lays the box out anew
            self._outcome = outcome
            self.query_one("#outcome", Static).update(Text(outcome))

    def _sentence(self, state: ExperimentState) -> str:
        parts = [self.start_line()]
        running = self._is_running()
        if state.state == "stopping":
            parts.append(tally(state))
        elif state.stages and (running or state.state in ("completed", "queued")):
            parts.append(f"{state.finished} of {len(state.stages)} stages")
        if running:
            left = state.remaining(self.frame.clock()) if state.state != "stopping" else None
            if state.started is not None:
                parts.append(f"running for {duration(max(0.0, self.frame.clock() - state.started))}")
            parts.append(f"about {duration(left)} left" if left is not None else "")
        else:
            ended = state.state in ("completed", "queued")
            parts.append(look(state.state).word if ended else tally(state))
            parts.append("R resumes" if not ended and self.check_action("resume", ()) else "")
            parts.append("v reviews the suspects" if self.scanned() else "")
        return " · ".join(p for p in (*parts, self._gpu) if p)

    def _look_at_gpu(self) -> None:
        def take(line: str) -> None:
            self._gpu = line

        self.frame.ask(self, "gpu", gpu_line, take, "ask the GPUs")

    # --- what the keys do

    def on_lines_moved(self, event: Lines.Moved) -> None:
        """Show the curves of the stage under the cursor, which the person chose."""
        if isinstance(event.lines, PlanTree):
            self._follows = False
            self._paint_curves()

    async def on_lines_chosen(self, event: Lines.Chosen) -> None:
        """Open the run of a stage."""
        stage = self.query_one(PlanTree).current
        if isinstance(event.lines, PlanTree) and stage is not None:
            if stage.status in OPEN:
                self.frame.say(f"{stage.label} has not ended yet; its results come then")
            elif "runs" in self.frame.specs:
                await self.frame.open_run(stage.uid)

    def action_follow(self) -> None:
        """Let the cursor follow what runs, and the log its end."""
        self._follows = True
        self._painted = ()
        self.query_one("#log", LogView).action_follow()
        self.tick()

    def action_find(self) -> None:
        """Find in the log."""
        self.query_one("#find", FilterBar).open()

    def on_filter_bar_narrowed(self, event: FilterBar.Narrowed) -> None:
        """Show where the text occurs."""
        found = self.query_one("#log", LogView).look_for(event.text)
        if event.text:
            self.status = f"'{event.text}' is in {found} line{'s' * (found != 1)} · n next, N previous"
        else:
            self._painted = ()
            self.tick()

    def on_filter_bar_left(self) -> None:
        """Go to the log."""
        log = self.query_one("#log", LogView)
        log.focus()
        if log.wanted:
            log.action_find(-1)

    def action_back(self) -> None:
        """End the search in the log; go back to the plan."""
        bar = self.query_one("#find", FilterBar)
        if bar.value:
            bar.action_clear()
        else:
            self.query_one(PlanTree).focus()

    def action_copy(self) -> None:
        """Copy the uid of the run under the cursor."""
        stage = self.query_one(PlanTree).current
        if stage is not None:
            self.frame.copy(stage.uid)

    def action_attach(self) -> None:
        """Choose among all experiments, those that run first."""
        running = self.frame.hub.running

        def show(found: list[tuple[str, str]]) -> None:
            ordered = sorted(found, key=lambda item: item[0] not in running)
            options = [Option(f"{'▶ running' if u in running else '  ended  '}  {u}  {name}", u) for u, name in ordered]
            self.frame.push_screen(Picker("Experiments" if options else "No experiments yet", options), chosen)

        def chosen(uid: str | None) -> None:
            if uid is not None:
                self.show_experiment(uid)

        self.frame.ask(self, "past", lambda: past(self.frame.workspace), show, "list the experiments")

    def action_cancel_stage(self) -> None:
        """Ask the stage under the cursor to stop, after a question."""
        stage = self.query_one(PlanTree).current
        if stage is None or stage.status not in OPEN:
            self.frame.say("this stage has ended; X cancels the whole experiment")
            return
        self._ask_to_cancel(stage.uid, f"Cancel {stage.label}?", "What builds on it is skipped; all else goes on.")

    def action_cancel_all(self) -> None:
        """Ask the experiment to stop, after a question."""
        state = self.experiment
        if self.starting:
            self.cancel_start()
        elif state is not None:
            self._ask_to_cancel(state.uid, f"Cancel {state.name}?", "Finished stages are kept; R goes on later.")

    def _is_running(self) -> bool:
        return self.experiment is not None and self.experiment.uid in self.frame.hub.running

    def _ask_to_cancel(self, uid: str, title: str, body: str) -> None:
        def chosen(choice: str | None) -> None:
            if choice is not None and not self._is_running():
                self.frame.say("it has ended meanwhile")
            elif choice is not None:
                self.frame.ask(self, f"cancel {uid}", lambda: self.frame.workspace.cancel(uid), said, "cancel it")

        def said(_: None) -> None:
            self._painted = ()
            self.frame.say("asked to stop; it stops at its next step")

        self.frame.push_screen(Dialog(title, body, (Choice("x", "cancel it", "yes"),), safe="leave it"), chosen)


def _outcome(stage: StageState) -> str:
    if stage.error:
        return one_line(stage.error)
    found = [f"{word} {shown(stage.metrics[name])}" for name, word in HEADLINES.items() if name in stage.metrics]
    return "  ".join(found)
