"""Keys that come at once, as over a slow connection: each meets what the one before has brought about."""

from __future__ import annotations

import pytest
from textual import events
from textual.widgets import Input

from safedl.profile.load import load
from safedl.workspace import Workspace
from tests.conclusions.measured import save
from tests.tui.conftest import FakeDriver, app_on, recorded, until
from tui.app import SafedlApp
from tui.panes.defenses import DefensesPane
from tui.panes.runs import RunsPane
from tui.widgets.filter import FilterBar
from tui.widgets.modal import Dialog, Picker


def at_once(app: SafedlApp, *keys: str) -> None:
    """Press keys without waiting for anything."""
    for key in keys:
        app.post_message(events.Key(key, key if len(key) == 1 else {"space": " ", "slash": "/"}.get(key)))


def filters(app: SafedlApp) -> list[str]:
    """Return what stands in the filters of the panes that were opened."""
    return [bar.value for bar in app.main.query(FilterBar)]


async def defenses(app: SafedlApp, attack: str, defense: str) -> DefensesPane:
    await app.action_go("defenses")
    pane = app.main.query_one(DefensesPane)
    pane.show_attack(attack)
    pane.picks("defenses").point_at(defense)
    pane.picks("attacks").focus()
    await until(lambda: app.focused is pane.picks("attacks"))
    return pane


async def test_a_key_right_after_enter_reaches_the_list_that_enter_went_to(workspace: Workspace) -> None:
    path = save(workspace.root)
    async with app_on(workspace) as (app, _):
        pane = await defenses(app, "static_patch", "spectral_signatures")
        here, below = pane.picks("attacks").cursor, pane.picks("defenses").cursor + 1
        wanted = pane.picks("defenses").picks[below]
        at_once(app, "enter", "j", "space")
        await until(lambda: pane.picks("defenses").picks[below].mark != wanted.mark)
        assert pane.picks("attacks").cursor == here
        assert app.focused is pane.picks("defenses")
        named = {d.spec.name for a in load(path).attacks if a.spec.name == "static_patch" for d in a.defenses}
        assert (wanted.value in named) == (wanted.mark == "[ ]")


async def test_a_value_can_be_typed_right_after_enter(workspace: Workspace) -> None:
    path = save(workspace.root)
    async with app_on(workspace) as (app, _):
        pane = await defenses(app, "label_flipping", "data_cleaning")
        at_once(app, "enter", "enter", "j", "j", "enter", "ctrl+u", "ctrl+k", "7", "enter")
        await until(lambda: "folds: 7" in path.read_text())
        assert app.pane is pane


@pytest.mark.parametrize("times", [1, 3])
async def test_keys_right_after_a_pane_was_called_are_for_that_pane(workspace: Workspace, times: int) -> None:
    async with app_on(workspace) as (app, _):
        at_once(app, *("6", "3") * (times - 1), "5", "slash", *"attack")
        await until(lambda: "attack" in filters(app))
        assert app.pane is app.main.query_one(RunsPane)
        assert filters(app) == ["", "attack"]


async def test_keys_right_after_a_dialog_was_called_are_for_that_dialog(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, _):
        at_once(app, "r", *"digits")
        await until(lambda: [line.value for line in app.screen.query(Input)] == ["digits"])
        assert isinstance(app.screen, Picker)
        at_once(app, "escape", "5")
        await until(lambda: app.pane is not None and app.pane.id == "runs" and not isinstance(app.screen, Picker))


async def test_text_that_is_pasted_waits_its_turn(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, _):
        at_once(app, "5", "slash")
        app.post_message(events.Paste("asr>0.5"))
        at_once(app, "x")
        await until(lambda: "asr>0.5x" in filters(app))


async def test_a_pane_that_hangs_can_still_be_left(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    save(workspace.root)
    monkeypatch.setattr("tui.services.keyboard.LONGEST", 0.2)
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    gate: list[bool] = []
    async with app_on(workspace) as (app, _):
        await until(lambda: app.hub.running)
        pane = await defenses(app, "static_patch", "spectral_signatures")
        pane.call_later(until, lambda: gate, 60.0)
        at_once(app, "j", "ctrl+q")
        await until(lambda: isinstance(app.screen, Dialog))
        gate.append(True)
    driver.leave()
