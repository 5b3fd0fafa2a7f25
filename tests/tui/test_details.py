"""What the Runs pane tells of one run: always of the run that its title names, and as it is by now; late answers."""

from __future__ import annotations

import threading

import pytest

from safedl.workspace import Workspace
from tests.store.samples import Workplace, finished
from tests.tui.conftest import FakeDriver, app_on, recorded, screen_text, until
from tests.tui.test_runs_pane import filled, pane_of, shown
from tui.services import runs as service
from tui.services.runs import Details
from tui.widgets.filter import FilterBar
from tui.widgets.modal import Dialog, OptionLines

__all__ = ["filled"]
TO_METRICS = ["right_square_bracket"] * 3
TO_LOG = ["right_square_bracket"] * 4


async def test_what_is_yet_to_be_read_is_not_another_runs(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    read, may_answer = service.read_details, threading.Event()

    def slowly(workspace: Workspace, uid: str) -> Details:
        if uid == "attack":
            assert may_answer.wait(60)
            raise PermissionError(13, "Permission denied", "events.jsonl")
        return read(workspace, uid)

    monkeypatch.setattr(service, "read_details", slowly)
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        pane_of(app).table.cursor = shown(app).index("clean")
        await pilot.press(*TO_LOG)
        await until(lambda: "completed" in screen_text(app))
        pane_of(app).table.cursor = shown(app).index("attack")
        await until(lambda: "completed" not in screen_text(app) and "─ attack  Summary" in screen_text(app))
        may_answer.set()
        await until(lambda: isinstance(app.screen, Dialog))
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert "completed" not in screen_text(app)


async def test_scores_that_come_later_are_shown(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        pane = pane_of(app)
        pane.table.cursor = shown(app).index("clean")
        await pilot.press(*TO_METRICS)
        await until(lambda: "clean_accuracy" in screen_text(app))
        assert "removed" not in screen_text(app)
        work = Workplace(filled.root)
        work.apply(finished("clean", {"clean_accuracy": 0.98, "asr": 0.02, "removed": 7}))
        work.recorder.close()
        pane.action_reload()
        await until(lambda: "removed" in screen_text(app))


async def test_a_report_is_found_again_where_it_was_left(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        pane = pane_of(app)
        pane.table.cursor = shown(app).index("clean")
        await pilot.press("right_square_bracket", "enter", "j", "j")
        await until(lambda: "A layer called layer[/conv.0]." in screen_text(app))
        await pilot.press("right_square_bracket")
        await until(lambda: "no pictures" in screen_text(app))
        await pilot.press("left_square_bracket")
        await until(lambda: "A layer called layer[/conv.0]." in screen_text(app))
        assert pane.query_one("#sections", OptionLines).cursor == 2


async def test_a_retry_of_what_runs_is_told_and_starts_nothing(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    resumed: list[str] = []
    monkeypatch.setattr(Workspace, "resume", lambda self, uid: resumed.append(uid))
    driver = FakeDriver(filled, recorded(), "e1")
    async with app_on(filled) as (app, pilot):
        await until(lambda: app.hub.running)
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("r")
        await until(lambda: any("running already" in n.message for n in app._notifications))
        assert not resumed
    driver.leave()


async def test_runs_that_come_as_the_filter_is_opened_leave_it_the_focus(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        pane = pane_of(app)
        page = pane.page
        await pilot.press("slash", *"acc>2", "enter")
        await until(lambda: app.focused is pane and pane.has_focus)
        app.call_later(pane._take, page)
        app.call_later(pane.action_filter)  # before the list is laid out
        await until(lambda: pane.query_one(FilterBar).has_focus and not pane.has_class("-empty"))
        await pilot.pause()
        await pilot.pause()
        assert app.focused is pane.query_one(FilterBar)
