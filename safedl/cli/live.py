"""How a run looks while it goes on: live bars on a terminal, plain lines elsewhere, JSON Lines on request."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TextIO

import rich.markup
import rich.progress
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from safedl.cli.output import even_unread, note
from safedl.events import HEADLINES, Event, encode
from safedl.progress import Progress, seconds_left
from safedl.store.records import OPEN
from safedl.text import duration, printable

SYMBOLS = {"completed": "✓", "linked": "✓", "failed": "✗", "cancelled": "■", "skipped": "–", "interrupted": "!"}
WORDS = {"linked": "done before"}


class View(Protocol):
    """Something that shows events."""

    def handle(self, item: Event) -> None:
        """Take one event."""


@contextmanager
def make_view(json: TextIO | None) -> Iterator[View]:
    """Return the view that suits: JSON Lines to `json` if it is given, or progress on stderr."""
    console = Console(stderr=True)
    if json is not None:
        yield JsonView(json)
    elif console.is_terminal:
        view = LiveView(console)
        with even_unread():
            view.live.start()
        try:
            yield view
        finally:
            with even_unread():
                view.live.stop()
    else:
        yield PlainView()


class Preparation(Progress):
    """Shows data being fetched and read, before there are stages to show; goes on where nobody reads it."""

    def __init__(self) -> None:
        self._bars = rich.progress.Progress(console=Console(stderr=True), transient=True)
        self._tasks: dict[str, rich.progress.TaskID] = {}

    def __enter__(self) -> Preparation:
        if self._bars.console.is_terminal:
            with even_unread():
                self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars.console.is_terminal:
            with even_unread():
                self._bars.stop()  # elsewhere this would print an empty line

    def step(self, phase: str, done: int, total: int) -> None:
        """Move the phase's bar."""
        with even_unread():
            if phase not in self._tasks:
                self._tasks[phase] = self._bars.add_task(rich.markup.escape(printable(phase)), total=total)
            self._bars.update(self._tasks[phase], completed=done, total=total)

    def log(self, message: str) -> None:
        """Say it on stderr."""
        with even_unread():
            note(message)


class JsonView:
    """Prints every event as one line of JSON."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def handle(self, item: Event) -> None:
        """Print the event."""
        print(encode(item), file=self.stream, flush=True)


@dataclass
class _Stage:
    label: str
    status: str = "queued"
    started: float = 0.0
    phase: str = ""
    done: int = 0
    total: int = 0
    curves: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def fraction(self) -> float:
        return self.done / self.total if self.total else 0.0


class Follower:
    """Keeps the state of an experiment's stages from its events."""

    def __init__(self) -> None:
        self.stages: dict[str, _Stage] = {}
        self.started = time.monotonic()

    def apply(self, item: Event) -> _Stage | None:
        """Take one event and return the stage that it concerns."""
        if item["event"] == "experiment" and "stages" in item:
            for stage in item["stages"]:
                self.stages[stage["uid"]] = _Stage(stage["id"])
        stage = self.stages.get(item["uid"])
        if stage is None:
            return None
        if item["event"] == "run":
            stage.status = item["status"]
            if stage.status == "running":
                stage.started = time.monotonic()
        elif item["event"] == "progress":
            stage.phase, stage.done, stage.total = item["phase"], item["done"], item["total"]
        elif item["event"] == "metric":
            stage.curves[item["name"].rpartition(".")[2]] = item["value"]
        elif item["event"] == "result":
            stage.metrics = item["metrics"]
        return stage

    @property
    def finished(self) -> int:
        """How many stages have reached their end."""
        return sum(s.status not in OPEN for s in self.stages.values())

    def remaining_seconds(self) -> float | None:
        """Return an estimate from what has been done so far, or None at the very start."""
        return seconds_left(((s.status, s.fraction) for s in self.stages.values()), time.monotonic() - self.started)


def outcome_line(item: Event, stage: _Stage | None) -> str | None:
    """Return what to say when a stage has reached its end, or to warn of the experiment itself, or None."""
    if stage is None:
        said = item["event"] == "log" and item.get("level") in ("warning", "error")
        return printable(str(item["message"])) if said else None
    if item["event"] != "run" or item["status"] in OPEN:
        return None
    status = item["status"]
    parts = [f"{SYMBOLS[status]} {WORDS.get(status, status):<11} {stage.label}"]
    for name, word in HEADLINES.items():
        if stage.metrics.get(name) is not None:
            parts.append(f"{word} {stage.metrics[name]:.3f}")
    if stage.metrics.get("seconds") is not None:
        parts.append(f"{stage.metrics['seconds']:.1f} s")
    if item.get("error"):
        parts.append(item["error"])
    return printable("  ".join(parts))


class PlainView:
    """One line on stderr when a stage ends, or there is something to warn of."""

    def __init__(self) -> None:
        self.follower = Follower()

    def handle(self, item: Event) -> None:
        """Say something if a stage has ended."""
        stage = self.follower.apply(item)
        line = outcome_line(item, stage)
        if line:
            print(f"[{self.follower.finished}/{len(self.follower.stages)}] {line}", file=sys.stderr, flush=True)


class LiveView:
    """Finished stages scroll up; running ones stay below with bar, loss and accuracy."""

    def __init__(self, console: Console) -> None:
        self.follower = Follower()
        self.console = console
        self.live = Live(console=console, refresh_per_second=5, get_renderable=self._render, transient=True)

    def handle(self, item: Event) -> None:
        """Take one event; the display refreshes itself."""
        stage = self.follower.apply(item)
        line = outcome_line(item, stage)
        if line:
            self.console.print(Text(line))

    def _render(self) -> Group:
        table = Table.grid(padding=(0, 2))
        for _ in range(6):
            table.add_column(no_wrap=True, overflow="ellipsis")
        for stage in [s for s in self.follower.stages.values() if s.status == "running"]:
            curves = "  ".join(f"{n} {v:.3f}" for n, v in stage.curves.items())
            seconds = time.monotonic() - stage.started
            table.add_row(
                Text(f"▶ {printable(stage.label)}"),
                Text(stage.phase),
                ProgressBar(total=1.0, completed=stage.fraction, width=16),
                Text(f"{stage.fraction:4.0%}"),
                Text(curves),
                Text(f"{seconds:.0f} s"),
            )
        left = self.follower.remaining_seconds()
        eta = f"about {duration(left)} left" if left is not None else ""
        elapsed = duration(time.monotonic() - self.follower.started)
        head = f"{self.follower.finished} of {len(self.follower.stages)} stages   {elapsed}   {eta}   ctrl-c stops"
        return Group(table, Text(head))
