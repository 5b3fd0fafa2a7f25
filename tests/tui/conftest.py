"""The app under test: a frozen clock, no colours to compare, screens as text."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from filelock import FileLock
from textual._context import visible_screen_stack
from textual.pilot import Pilot

from safedl.events import Event
from safedl.workspace import Workspace
from tui.app import SafedlApp

GOLDEN = Path(__file__).parent / "golden"
SIZES = ((80, 24), (120, 40))
NOW = 1_795_405_350.0
"""The clock of all tests, in seconds since the epoch: while what was recorded ran."""


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fix what screens depend on: the time zone, and that nobody has a GPU or a tmux around them."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "screen-256color")
    monkeypatch.delenv("COLORTERM", raising=False)
    monkeypatch.setenv("TEXTUAL_ANIMATIONS", "none")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr("tui.panes.run.gpu_line", lambda: "")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Return an empty workspace."""
    root = tmp_path / "w"
    root.mkdir()
    return Workspace.open(root, root / "safedl.db")


@asynccontextmanager
async def app_on(
    workspace: Workspace, size: tuple[int, int] = (80, 24), clock: Callable[[], float] = lambda: NOW
) -> AsyncIterator[tuple[SafedlApp, Pilot[None]]]:
    """Run the app on a workspace without a terminal."""
    app = SafedlApp(workspace, memory=workspace.root / "app.json", clock=clock)
    app.animation_level = "none"
    async with app.run_test(size=size, notifications=True) as pilot:
        await until(lambda: app.pane is not None)
        yield app, pilot


async def until(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until a condition holds. Fails after so many seconds, which is no measure of speed."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came true"
        await asyncio.sleep(0.02)


def screen_text(app: SafedlApp) -> str:
    """Return what the screen shows; behind a dialog, what lies there, also if that is painted here first."""
    visible_screen_stack.set(app._background_screens)
    lines = ("".join(segment.text for segment in strip).rstrip() for strip in app.screen._compositor.render_strips())
    return "\n".join(lines) + "\n"


async def golden(app: SafedlApp, name: str) -> None:
    """Compare the screen with `golden/<name>_<columns>x<rows>.txt`; SAFEDL_GOLDEN=write writes the file anew.

    A screen may still be laying itself out (a scroll bar follows its content by a frame), so the comparison
    waits for the screen to agree and fails only on what stays different. The header is left out: it names all
    panes, so every new pane would change every file.
    """
    path = GOLDEN / f"{name}_{app.size.width}x{app.size.height}.txt"

    def text() -> str:
        return screen_text(app).partition("\n")[2]

    if os.environ.get("SAFEDL_GOLDEN") == "write":
        await asyncio.sleep(1.0)
        path.write_text(text())
    expected = path.read_text()
    with suppress(AssertionError):
        await until(lambda: text() == expected, seconds=20.0)
    assert text() == expected, f"{path.name} differs; SAFEDL_GOLDEN=write pytest tests/tui shows it as a diff"


def recorded() -> list[Event]:
    """Return the events of a small experiment: a baseline, an attack, two defenses, three bounds."""
    return [json.loads(line) for line in (Path(__file__).parent / "recorded.jsonl").read_text().splitlines()]


UID = "20261123-034152-e00000"
"""The recorded experiment."""


class FakeDriver:
    """Writes an experiment's events as a driver would, and holds its lock while it "lives"."""

    def __init__(self, workspace: Workspace, events: Sequence[Event], uid: str = UID) -> None:
        self.events = list(events)
        self.folder = workspace.experiment_folder(uid)
        self.folder.mkdir(parents=True, exist_ok=True)
        runs = {s["id"]: s["uid"] for e in self.events for s in e.get("stages", [])}
        plan = {"name": "demo", "stages": runs, "runs": list(runs.values())}
        (self.folder / "plan.json").write_text(json.dumps(plan))
        self.lock = FileLock(self.folder / "driver.lock")
        self.lock.acquire()

    def say(self, number: int | None = None) -> None:
        """Write the next `number` events, or all."""
        now, self.events = self.events[:number], self.events[number:] if number is not None else []
        with (self.folder / "events.jsonl").open("a") as file:
            file.writelines(json.dumps(item) + "\n" for item in now)

    def leave(self) -> None:
        """End, or die: the lock is free."""
        self.lock.release()
