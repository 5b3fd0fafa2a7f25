"""What experiments do, kept from the events that their drivers write. Nobody is asked; files are read."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from safedl import events
from safedl.errors import NotFoundError, SafedlError
from safedl.events import Event
from safedl.progress import seconds_left
from safedl.store.records import OPEN
from safedl.text import one_line, shown
from safedl.workspace import Workspace
from tui.services.names import shortened
from tui.services.times import local
from tui.states import look

SCAN = "scan"
"""The kind of a stage that scans."""
LOG_LINES = 2000
NAME = 30
"""Cells for a stage's name in the log."""
ALIVE_INTERVAL = 1.0
"""Seconds between looks at which drivers are alive."""


@dataclass
class StageState:
    """One stage of a followed experiment. Times are seconds since the epoch."""

    uid: str
    id: str
    kind: str
    parent: str | None
    label: str
    status: str = "queued"
    phase: str = ""
    done: int = 0
    total: int = 0
    started: float | None = None
    ended: float | None = None
    error: str | None = None
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    metrics: dict[str, float | None] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        """The share of the present phase that is done, in [0, 1]."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    @property
    def depth(self) -> int:
        """How deep the stage stands in the tree."""
        return 2 if "/" in self.id else 1 if self.parent else 0


class ExperimentState:
    """An experiment as its events tell it. `version` counts changes; a view repaints when it differs."""

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.name = ""
        self.status = "queued"
        self.alive = False
        self.stages: dict[str, StageState] = {}
        self.log: deque[str] = deque(maxlen=LOG_LINES)
        self.logged = 0
        """How many lines there have been: what came after a number is new."""
        self.started: float | None = None
        self.asked_to_stop: frozenset[str] = frozenset()
        """Uids (of this experiment, or of runs) that were asked to stop."""
        self.version = 0
        self.offset = 0
        self._seed = ""
        """What ends all names of stages: `@0`, unless there are several seeds."""
        self.caught_up = False
        """Whether everything that was there at first has been read."""

    def apply(self, item: Event) -> None:
        """Take one event."""
        self.version += 1
        kind, at = item["event"], _seconds(item.get("at"))
        if kind == "experiment":
            self._apply_experiment(item, at)
        stage = self.stages.get(item["uid"])
        if stage is not None:
            _apply_to_stage(stage, kind, item, at)
        line = _line(item)
        if line is not None:
            name = one_line(stage.id.removesuffix(self._seed) if stage else self.name)
            self.log.append(f"{_time_of_day(item)} {shortened(name, NAME):<{NAME}} {line}")
            self.logged += 1

    def _apply_experiment(self, item: Event, at: float) -> None:
        self.status = item.get("status", self.status)
        if "stages" in item:
            self.name = str(item.get("name", ""))
            self.started = at
            self.stages = {
                s["uid"]: StageState(s["uid"], s["id"], s["kind"], s.get("parent"), s["label"]) for s in item["stages"]
            }
            seeds = {s.id.rpartition("@")[2] for s in self.stages.values()}
            self._seed = f"@{seeds.pop()}" if len(seeds) == 1 else ""

    @property
    def state(self) -> str:
        """The experiment's state, by what it said and whether its driver lives."""
        if self.status in ("started", "queued"):
            if not self.alive:
                return "interrupted" if self.status == "started" else "queued"
            return "stopping" if self.uid in self.asked_to_stop else "running"
        return self.status

    def state_of(self, stage: StageState) -> str:
        """A stage's state, likewise."""
        if stage.status in OPEN and self.state not in ("running", "stopping", "queued"):
            return "interrupted"
        if stage.status == "running" and (stage.uid in self.asked_to_stop or self.uid in self.asked_to_stop):
            return "stopping"
        return stage.status

    @property
    def finished(self) -> int:
        """How many stages have reached their end."""
        return sum(s.status not in OPEN for s in self.stages.values())

    def remaining(self, now: float) -> float | None:
        """Return an estimate of the seconds left, from what has been done so far.

        None at the very start, and of a single stage: the share of a phase says nothing about those that follow.
        """
        if len(self.stages) == 1 or self.started is None:
            return None
        return seconds_left(((s.status, s.fraction) for s in self.stages.values()), now - self.started)


def _apply_to_stage(stage: StageState, kind: str, item: Event, at: float) -> None:
    if kind == "run":
        stage.status, stage.error = item["status"], item.get("error")
        if stage.status == "running":
            stage.started = at
        elif stage.status not in OPEN:
            stage.ended = at
    elif kind == "progress":
        stage.phase, stage.done, stage.total = str(item["phase"]), item["done"], item["total"]
    elif kind == "metric" and isinstance(item["value"], int | float):
        stage.curves.setdefault(item["name"], []).append((item["step"], item["value"]))
    elif kind == "result":
        stage.metrics = item["metrics"]


def _line(item: Event) -> str | None:
    """Return what an event says in a log, or None for those that move bars and curves."""
    match item["event"]:
        case "run" | "experiment":
            return str(item["status"]) + (f": {one_line(str(item['error']))}" if item.get("error") else "")
        case "log":
            level = str(item.get("level", "info"))
            return ("" if level == "info" else f"{level.upper()} ") + one_line(str(item["message"]))
        case "result":
            return "  ".join(f"{one_line(k)} {shown(v)}" for k, v in item["metrics"].items() if "." not in k)
        case _:
            return None


def log_lines(items: Iterable[Event]) -> list[str]:
    """Return events as lines of a log, without those that move bars and curves."""
    lines = ((item, _line(item)) for item in items)
    return [f"{_time_of_day(item)} {line}" for item, line in lines if line is not None]


def _time_of_day(item: Event) -> str:
    """Return when an event happened by the clock on the wall, as in the list of runs; events tell UTC."""
    return local(item.get("at"), "%H:%M:%S").rjust(8)


def _seconds(at: object) -> float:
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except ValueError:
        return 0.0


@dataclass(frozen=True)
class Reading:
    """What one look at the files found."""

    running: frozenset[str]
    """Experiments whose driver is alive."""
    batches: tuple[tuple[str, list[Event], int, frozenset[str]], ...]
    """Of each followed experiment: uid, new events, the offset to go on from, who was asked to stop."""


class Hub:
    """Follows the experiments that run and those that someone looks at.

    `read` looks at files and belongs into a thread; `apply` changes states and belongs to the app. Between the two,
    states never change, so views need no locks.
    """

    def __init__(self, workspace: Workspace, clock: Callable[[], float]) -> None:
        self.workspace, self.clock = workspace, clock
        self.experiments: dict[str, ExperimentState] = {}
        self.running: frozenset[str] = frozenset()
        self.looked = False
        """Whether it is known what runs: not before the first reading."""
        self._looked_at = float("-inf")
        self._there = False
        """Whether the workspace's folder was there: one in which nothing has run may have none yet."""
        self._dead: dict[str, int] = {}
        """Size of the events of experiments that had no driver: unchanged, they need no second look."""

    def follow(self, uid: str) -> ExperimentState:
        """Return an experiment's state, which is kept up to date from now on."""
        return self.experiments.setdefault(uid, ExperimentState(uid))

    def look_now(self) -> None:
        """Look for living drivers at the next reading."""
        self._looked_at = float("-inf")
        self._dead.clear()

    def read(self) -> Reading:
        """Read what is new. Raises `SafedlError` when the workspace's folder is gone, `OSError` as files do."""
        there = self.workspace.root.is_dir()
        if self._there and not there:
            gone = "is gone: moved, deleted, or not mounted any more"
            raise SafedlError(f"the workspace {self.workspace.root} {gone}.\nWhat is shown was read before.")
        self._there, running = there, self.running
        if self.clock() - self._looked_at >= ALIVE_INTERVAL:
            self._looked_at = self.clock()
            running = frozenset(uid for uid in self.workspace.experiments() if self._is_alive(uid))
        batches = []
        for uid in sorted({*self.experiments, *running}):
            state = self.experiments.get(uid)
            if state is not None and state.caught_up and uid not in running and uid not in self.running:
                continue
            path = self.workspace.experiment_folder(uid) / "events.jsonl"
            found, offset = events.read_from(path, state.offset if state else 0)
            open_runs = [s.uid for s in list(state.stages.values()) if s.status in OPEN] if state else []
            asked = frozenset(u for u in (uid, *open_runs) if self._is_asked_to_stop(u))
            batches.append((uid, found, offset, asked))
        return Reading(running, tuple(batches))

    def apply(self, reading: Reading) -> Iterable[ExperimentState]:
        """Take in a reading; return the experiments that have ended since the last one."""
        ended = []
        self.looked = True
        self.running, before = reading.running, self.running
        for uid, found, offset, asked in reading.batches:
            state = self.follow(uid)
            alive = uid in self.running
            if (alive, asked) != (state.alive, state.asked_to_stop):
                state.version += 1
            state.alive, state.asked_to_stop, state.offset = alive, asked, offset
            for item in found:
                state.apply(item)
            state.caught_up = True
            if uid in before and not alive:
                ended.append(state)
        return ended

    def _is_alive(self, uid: str) -> bool:
        try:
            size = (self.workspace.experiment_folder(uid) / "events.jsonl").stat().st_size
        except OSError:
            size = 0
        if self._dead.get(uid) == size:
            return False
        alive = self.workspace.is_running(uid)
        if not alive:
            self._dead[uid] = size
        return alive

    def _is_asked_to_stop(self, uid: str) -> bool:
        folders = (self.workspace.experiment_folder(uid), self.workspace.run_folder(uid))
        return any((folder / "cancel").exists() for folder in folders)


def stage_order(state: ExperimentState) -> list[StageState]:
    """Return the stages as a tree reads: each parent before its children, children in plan order."""
    children: dict[str | None, list[StageState]] = {}
    for stage in state.stages.values():
        children.setdefault(stage.parent, []).append(stage)
    ordered: list[StageState] = []

    def descend(parent: str | None) -> None:
        for stage in children.get(parent, ()):
            ordered.append(stage)
            descend(stage.id)

    descend(None)
    return ordered


def tally(state: ExperimentState) -> str:
    """Return how the stages of an experiment have ended, and how it has itself: `14 done, 5 cancelled`."""
    counts = Counter("completed" if s == "linked" else s for s in map(state.state_of, state.stages.values()))
    parts = [f"{n} {look(status).word}" for status, n in sorted(counts.items(), key=lambda c: c[0] != "completed")]
    word = look(state.state).word
    return ", ".join(parts) + ("" if state.state in counts else f" · {word}" if parts else word)


def past(workspace: Workspace) -> list[tuple[str, str]]:
    """Return uid and name of all experiments, newest first; one whose plan cannot be read has no name."""
    found = []
    for uid in reversed(workspace.experiments()):
        try:
            found.append((uid, str(workspace.read_plan(uid).get("name", ""))))
        except NotFoundError:
            found.append((uid, ""))
    return found
