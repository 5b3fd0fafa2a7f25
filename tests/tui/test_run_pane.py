from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from safedl import events
from safedl import workspace as desk
from safedl.errors import UsageError
from safedl.workspace import Workspace
from tests.tui.conftest import NOW, SIZES, UID, FakeDriver, app_on, golden, recorded, screen_text, until
from tui.panes.run import PlanTree, RunPane
from tui.widgets.logview import LogView
from tui.widgets.modal import Dialog, Picker

ENDED = 193


@pytest.mark.parametrize("size", SIZES)
async def test_the_first_start_says_what_this_is_and_what_to_press(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, _):
        await until(lambda: "Nothing has run here yet" in screen_text(app))
        await until(lambda: "⏎ run the demo" in screen_text(app))
        await golden(app, "run_empty")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("name", "count"), [("run_running", 60), ("run_done", ENDED)])
async def test_screens(workspace: Workspace, size: tuple[int, int], name: str, count: int) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(count)
    if count == ENDED:
        driver.leave()
    async with app_on(workspace, size) as (app, pilot):
        tree = app.main.query_one(PlanTree)
        await until(lambda: len(tree.stages) == 7 and "following" in screen_text(app))
        if count == ENDED:
            await pilot.press("j")
        await until(lambda: "loss (train)" in screen_text(app))
        await pilot.pause()
        await golden(app, name)


async def test_a_running_experiment_is_followed_and_its_end_is_told(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    async with app_on(workspace) as (app, _):
        tree = app.main.query_one(PlanTree)
        await until(lambda: "▶ running" in screen_text(app) and "●" in screen_text(app))
        driver.say(30)
        await until(lambda: tree.current is not None and tree.current.id == "static_patch@0")
        driver.say()
        driver.leave()
        app.hub.look_now()
        await until(lambda: "✓ demo: done" in screen_text(app))
        assert "●" not in screen_text(app)
        assert "7 of 7 stages · done" in screen_text(app)


async def test_a_dead_driver_is_shown_as_interrupted(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    driver.leave()
    async with app_on(workspace) as (app, _):
        await until(lambda: "! interrupted" in screen_text(app))
        assert "R resumes" in screen_text(app)


async def test_x_cancels_the_stage_after_a_question_and_esc_leaves_it(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    uid = recorded()[1]["uid"]
    workspace.run_folder(uid).mkdir(parents=True)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "▶ baseline" in screen_text(app))
        await pilot.press("x")
        await until(lambda: isinstance(app.screen, Dialog))
        await pilot.press("escape")
        assert not (workspace.run_folder(uid) / "cancel").exists()
        await pilot.press("x", "x")
        await until((workspace.run_folder(uid) / "cancel").exists)
        await until(lambda: "◌ baseline" in screen_text(app))
        assert "stopping" in screen_text(app)
    driver.leave()


async def test_an_experiment_that_stops_says_how_its_stages_have_ended(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "▶ baseline" in screen_text(app))
        assert "0 of " in screen_text(app)
        await pilot.press("X")
        await until(lambda: isinstance(app.screen, Dialog))
        await pilot.press("x")
        await until(lambda: "1 stopping, 6 waiting · running for" in screen_text(app))
        assert " of 7 stages" not in screen_text(app) and " left" not in screen_text(app).splitlines()[-2]
    driver.leave()


async def test_a_profile_is_started_by_the_front_desk_and_followed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[Path] = []

    def start(self: Workspace, profile: Path, arguments: Sequence[str] = ()) -> str:
        started.append(profile)
        driver = FakeDriver(workspace, recorded())
        driver.say(20)
        drivers.append(driver)
        return UID

    drivers: list[FakeDriver] = []
    monkeypatch.setattr(Workspace, "start", start)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "Nothing has run" in screen_text(app) and "⏎ run the demo" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "▶ baseline" in screen_text(app))
        assert [p.stem for p in started] == ["digits"]
        await pilot.press("r")
        await until(lambda: isinstance(app.screen, Picker))
        await pilot.press(*"fashion", "enter")
        await until(lambda: len(started) == 2 or isinstance(app.screen, Dialog))
        assert [p.stem for p in started] == ["digits", "fashion_mnist"]
        assert app.draft is not None and app.draft.name == "fashion_mnist", "it is what the other panes show"
    for driver in drivers:
        driver.leave()


@pytest.mark.parametrize("size", SIZES)
async def test_a_start_that_fails_says_what_why_and_what_next(
    workspace: Workspace, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(self: Workspace, profile: Path, arguments: Sequence[str] = ()) -> str:
        raise UsageError("digits.yaml: training.epochs: [b]must[/b] be at least 1\n\x1b[31mred")

    monkeypatch.setattr(Workspace, "start", start)
    async with app_on(workspace, size) as (app, pilot):
        await until(lambda: "Nothing has run" in screen_text(app) and "⏎ run the demo" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Dialog) and "start digits" in screen_text(app))
        text = screen_text(app)
        assert "[b]must[/b]" in text
        assert r"\x1b[31mred" in text
        assert "then try again" in text
        app.clear_notifications()
        await until(lambda: "loading takes" not in screen_text(app))
        await pilot.pause()
        await golden(app, "run_error")


async def test_all_experiments_can_be_looked_at_again(workspace: Workspace) -> None:
    old = FakeDriver(workspace, [{**e, "name": "older"} if "name" in e else e for e in recorded()], "20250101-a")
    old.say()
    old.leave()
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "demo · ▶ running" in screen_text(app))
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, Picker) and "▶ running" in screen_text(app))
        await pilot.press(*"2025", "enter")
        await until(lambda: "older · ✓ done · 1 more running" in screen_text(app))
    driver.leave()


async def test_where_nothing_has_run_there_is_nothing_to_choose_or_to_zoom(workspace: Workspace) -> None:
    async with app_on(workspace, (120, 40)) as (app, pilot):
        await until(lambda: "⏎ run the demo" in screen_text(app))
        assert "z zoom" not in screen_text(app)
        await pilot.press("a")
        await until(lambda: isinstance(app.screen, Picker) and "No experiments yet" in screen_text(app))


async def test_names_and_log_lines_from_elsewhere_are_shown_plainly(workspace: Workspace) -> None:
    items = recorded()[:3]
    items[0] = {**items[0], "name": "x" * 200, "stages": [{**s, "label": "layer[/conv.0]"} for s in items[0]["stages"]]}
    items.append(events.event("log", items[1]["uid"], level="info", message="[red]plain[/] \x1b[2J \u202e end"))
    driver = FakeDriver(workspace, items)
    driver.say()
    async with app_on(workspace) as (app, _):
        await until(lambda: "layer[/conv.0]" in screen_text(app))
        text = screen_text(app)
        assert "[red]plain[/]" in text
        assert r"\x1b[2J" in text
        assert "xxxx" in text
    driver.leave()


async def test_the_log_can_be_searched(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say()
    driver.leave()
    async with app_on(workspace) as (app, pilot):
        log = app.main.query_one("#log", LogView)
        await until(lambda: log.count > 20)
        await pilot.press("slash", *"bbd2842", "enter")
        await until(lambda: log.has_focus and "'bbd2842' is in 1 line · n next" in screen_text(app))
        assert log.look_for("BBD2842") == 1
        assert log.look_for("nowhere") == 0


async def test_a_search_in_the_log_is_ended_by_esc_and_the_sentence_comes_back(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say()
    driver.leave()
    async with app_on(workspace) as (app, pilot):
        tree, log = app.main.query_one(PlanTree), app.main.query_one("#log", LogView)
        await until(lambda: log.count > 20 and "following" in screen_text(app))
        await pilot.press("slash", *"baseline", "enter")
        await until(lambda: log.has_focus and "'baseline' is in" in screen_text(app))
        await until(lambda: "f follows" in screen_text(app) and "following" not in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "7 of 7 stages · done" in screen_text(app) and not log.wanted and log.has_focus)
        assert not app.main.query_one(RunPane).query_one("#find").display
        await pilot.press("escape")
        await until(lambda: tree.has_focus)


async def test_a_burst_of_events_repaints_a_few_times_only(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    async with app_on(workspace) as (app, _):
        pane = app.main.query_one(RunPane)
        await until(lambda: pane.experiment is not None and pane.experiment.stages)
        uid = recorded()[1]["uid"]
        before = pane.paints
        driver.events = [events.event("progress", uid, phase="train", done=i, total=5000) for i in range(5001)]
        driver.say()
        await until(lambda: "100%" in screen_text(app))
        assert pane.paints - before < 20
    driver.leave()


async def test_a_driver_that_begins_takes_no_keys_from_another_pane(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    async with app_on(workspace) as (app, _pilot):
        await app.action_go("run")
        pane = app.main.query_one(RunPane)
        await app.action_go("profile")
        await until(lambda: app.focused is not None)
        typing = app.focused
        pane.show_experiment(UID)
        assert app.focused is typing
    driver.leave()


async def test_a_cancelled_experiment_tells_what_was_done_and_which_keys_work(workspace: Workspace) -> None:
    items = recorded()
    stages = [s["uid"] for s in items[0]["stages"]]
    ends = [events.event("run", uid, status="completed") for uid in stages[:4]]
    ends += [events.event("run", uid, status="cancelled") for uid in stages[4:]]
    driver = FakeDriver(workspace, [items[0], *ends, events.event("experiment", UID, status="cancelled")])
    driver.say(5)
    async with app_on(workspace, (120, 40)) as (app, _):
        await until(lambda: "x cancel stage" in screen_text(app) and "4 of 7 stages" in screen_text(app))
        driver.say()
        await until(lambda: "■ cancelled" in screen_text(app))
        driver.leave()
        app.hub.look_now()
        await until(lambda: "x cancel stage" not in screen_text(app) and "R resume" in screen_text(app))
        assert "4 done, 3 cancelled · R resumes" in screen_text(app)
        assert "of 7 stages" not in screen_text(app)


async def test_what_is_being_resumed_is_not_offered_to_be_resumed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def resume(*_: object) -> None:
        begun.set()
        go_on.wait(60)

    monkeypatch.setattr(Workspace, "resume", resume)
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    driver.leave()
    async with app_on(workspace, (120, 40)) as (app, pilot):
        await until(lambda: "R resume " in screen_text(app))
        await pilot.press("R")
        await until(begun.is_set)
        await until(lambda: "R resume " not in screen_text(app) and "X cancels the start" in screen_text(app))
        assert app.pane is not None and "R resumes" not in app.pane.status
        go_on.set()
        await until(lambda: "R resume " in screen_text(app))


async def test_a_stage_that_was_done_before_says_where_its_curves_are(workspace: Workspace) -> None:
    items = recorded()
    first = items[0]["stages"][0]["uid"]
    driver = FakeDriver(workspace, [items[0], events.event("run", first, status="linked")])
    driver.say()
    async with app_on(workspace, (120, 40)) as (app, _):
        await until(lambda: "done in an earlier start; enter opens it" in screen_text(app))
        assert "no curves yet" not in screen_text(app)
    driver.leave()


async def test_a_start_that_takes_long_says_so_and_can_be_cancelled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    now = [NOW]
    async with app_on(workspace, (120, 40), clock=lambda: now[0]) as (app, pilot):
        await until(lambda: "⏎ run the demo" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "digits … 0:00 · X cancels the start · loading libraries, then data" in screen_text(app))
        now[0] += 50
        await until(lambda: "starting digits … 0:50" in screen_text(app) and "X cancels the start" in screen_text(app))
        await until(lambda: desk._STARTING)
        await pilot.press("X")
        await until(lambda: "Cancel starting digits?" in screen_text(app))
        await pilot.press("x")
        await until(lambda: "cancelled: starting digits" in screen_text(app))
        await until(lambda: "Nothing has run here yet" in screen_text(app))
        assert not workspace.experiments() and not workspace.stop_starting()


async def test_leaving_asks_what_becomes_of_what_is_being_started(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workspace, "_command", lambda *_: [sys.executable, "-c", "import time; time.sleep(60)"])
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "⏎ run the demo" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: desk._STARTING)
        (driver,) = desk._STARTING.values()
        await pilot.press("ctrl+q")
        await until(lambda: isinstance(app.screen, Dialog) and "1 experiment running or starting" in screen_text(app))
        assert "starting digits" in screen_text(app)
        await pilot.press("s")
        await until(lambda: not app.is_running and driver.poll() is not None)


async def test_an_experiment_that_is_shown_anew_is_followed(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    driver.say(60)
    async with app_on(workspace) as (app, pilot):
        tree, log = app.main.query_one(PlanTree), app.main.query_one("#log", LogView)
        await until(lambda: tree.current is not None and tree.current.status == "running" and log.count)
        running = tree.cursor
        await pilot.press("G", "tab", "k")
        await until(lambda: tree.cursor != running and not log.following)
        app.main.query_one(RunPane).show_experiment(UID)
        await pilot.pause()
        await app.read()
        await until(lambda: tree.cursor == running and log.following and app.focused is tree)
        driver.say()
        driver.leave()
        await until(lambda: tree.current is not None and tree.current.status != "running")


async def test_what_runs_is_shown_at_the_start_though_a_later_experiment_has_ended(workspace: Workspace) -> None:
    driver, later = FakeDriver(workspace, recorded()), FakeDriver(workspace, [], "20991231-000000-ffffff")
    later.leave()
    driver.say(20)
    async with app_on(workspace) as (app, _):
        await until(lambda: "▶ baseline" in screen_text(app))
    driver.leave()
