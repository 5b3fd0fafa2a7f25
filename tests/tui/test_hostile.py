"""What comes from elsewhere, or breaks underneath, is shown plainly and crashes nothing."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from safedl import events
from safedl.store import connect
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, finished, tree
from tests.tui.conftest import UID, FakeDriver, app_on, recorded, screen_text, until
from tui.widgets.modal import Dialog

HOSTILE = "[red]shoe[/] layer[/conv.0] \x1b[2J"
HOLD_THE_LOCK = """
import sys, time
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def stored(workspace: Workspace) -> Workspace:
    """A workspace with five runs; a class of the data set and a reason have hostile names."""
    work = Workplace(workspace.root)
    work.begin(experiment(), tree())
    for uid in ("base", "attack", "clean", "perfect"):
        work.apply(finished(uid, {"clean_accuracy": 0.9, f"clean_accuracy.{HOSTILE}": 0.5}))
    work.apply(finished("random", {}, "failed", HOSTILE))
    work.recorder.close()
    return workspace


async def test_a_class_called_like_markup_is_a_name_like_any_other(stored: Workspace) -> None:
    async with app_on(stored, (120, 40)) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "✗ failed" in screen_text(app))
        await until(lambda: r"[red]shoe[/] layer[/conv.0] \x1b[2J" in screen_text(app))
        await pilot.press("j", *["right_square_bracket"] * 3)
        await until(lambda: r"clean_accuracy.[red]shoe[/] layer[/conv.0]" in screen_text(app))


async def test_a_store_locked_by_another_process_can_be_read_and_refuses_plainly_to_write(
    stored: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "BUSY_SECONDS", 0.2)
    other = sqlite3.connect(stored.db, isolation_level=None)
    other.execute("begin immediate")
    async with app_on(stored) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "✗ failed" in screen_text(app))
        await pilot.press("X", "X")
        await until(lambda: isinstance(app.screen, Dialog) and "Could not delete run" in screen_text(app))
        assert "locked" in screen_text(app)
        assert stored.run_folder("random").exists()
    other.close()


async def test_a_driver_killed_with_minus_9_is_shown_as_interrupted(workspace: Workspace) -> None:
    fake = FakeDriver(workspace, recorded())
    fake.leave()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(workspace.experiment_folder(UID) / "driver.lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    fake.say(20)
    clock = [0.0]

    def tick() -> float:
        clock[0] += 0.1
        return 1_795_405_350.0 + clock[0]

    async with app_on(workspace, clock=tick) as (app, _):
        await until(lambda: "▶ baseline" in screen_text(app))
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        await until(lambda: "! interrupted" in screen_text(app))
        assert "R resumes" in screen_text(app)


async def test_a_name_of_two_hundred_letters_is_cut_not_wrapped(workspace: Workspace) -> None:
    items = recorded()[:3]
    items[0] = {**items[0], "name": "x" * 200}
    items.append(events.event("log", items[1]["uid"], level="info", message=HOSTILE))
    driver = FakeDriver(workspace, items)
    driver.say()
    async with app_on(workspace) as (app, _):
        await until(lambda: screen_text(app).count("xxxx…") == 2)  # above the plan and in the log
        assert sum("x…" in line or "xxxx" in line for line in screen_text(app).splitlines()) == 2
        assert "^q quit" in screen_text(app)
    driver.leave()


async def test_a_workspace_that_goes_while_it_is_open_is_told_once_and_followed_when_it_is_back(
    workspace: Workspace,
) -> None:
    driver = FakeDriver(workspace, recorded())
    away = workspace.root.with_name("away")
    async with app_on(workspace, clock=time.monotonic) as (app, pilot):
        await until(lambda: app.hub.running)
        workspace.root.rename(away)
        await until(lambda: isinstance(app.screen, Dialog) and "is gone: moved, deleted" in app.screen.body)
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        for _ in range(3):
            await app.read()
        assert len(app.screen_stack) == 1 and not app._news
        away.rename(workspace.root)
        driver.say()
        await until(lambda: "completed" in screen_text(app))
        workspace.root.rename(away)
        await until(lambda: isinstance(app.screen, Dialog))
        away.rename(workspace.root)
    driver.leave()


async def test_files_that_cannot_be_read_are_told_once(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    (driver.folder / "events.jsonl").mkdir()
    async with app_on(workspace) as (app, pilot):
        await until(lambda: isinstance(app.screen, Dialog) and "Could not read what runs" in screen_text(app))
        await pilot.press("escape")
        for _ in range(3):
            await app.read()
        assert len(app.screen_stack) == 1 and not app._news and not app._notifications
    driver.leave()


async def test_what_cannot_be_read_is_told_when_another_dialog_is_done_with(workspace: Workspace) -> None:
    away = workspace.root.with_name("away")
    async with app_on(workspace) as (app, pilot):
        await until(lambda: app.hub.looked)
        app.push_screen(Dialog("another", ""))
        await until(lambda: len(app.screen_stack) == 2)
        workspace.root.rename(away)
        await until(lambda: app._news)
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, Dialog) and "is gone: moved, deleted" in app.screen.body)
        away.rename(workspace.root)
