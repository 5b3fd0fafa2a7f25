from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from safedl.workspace import Workspace
from tests.tui.conftest import UID, FakeDriver, app_on, recorded, screen_text, until
from tests.tui.scans import FIRST, add_scan
from tui import theme as themes
from tui.panes import PANES
from tui.panes.run import PlanTree
from tui.panes.scan import ask_for_scan
from tui.services import runs
from tui.services.persist import Memory
from tui.widgets.help import Help, keys_of
from tui.widgets.logview import LogView
from tui.widgets.modal import Choice, Dialog, Option, Picker


def running(workspace: Workspace) -> FakeDriver:
    driver = FakeDriver(workspace, recorded())
    driver.say(20)
    return driver


async def test_number_keys_bring_panes_to_the_front(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "[5 Runs]" in screen_text(app))
        await pilot.press("4")
        await until(lambda: "[4 Run]" in screen_text(app))


@pytest.mark.parametrize("name", [p.name for p in PANES])
async def test_every_key_of_a_pane_says_what_it_does(workspace: Workspace, name: str) -> None:
    async with app_on(workspace) as (app, _):
        await app.action_go(name)
        await until(lambda: app.pane in (app.screen.focused.ancestors_with_self if app.screen.focused else ()))
        assert app.pane is not None
        own = [b for keys in app.pane._bindings.key_to_bindings.values() for b in keys]
        assert own
        assert all(b.description for b in own)
        assert {b.description for b in own} & {key.description for key in keys_of(app.screen)}


async def test_the_last_line_keeps_help_and_quit_in_view(workspace: Workspace) -> None:
    driver = running(workspace)
    for size in ((60, 16), (80, 24), (200, 50)):
        async with app_on(workspace, size) as (app, _):
            await until(lambda app=app: "▶ running" in screen_text(app))  # type: ignore[misc]
            last = screen_text(app).splitlines()[-1]
            assert last.endswith("^p cmds  ? help  ^q quit")
    driver.leave()


async def test_help_can_be_searched_and_does_what_it_says(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "No runs yet" in screen_text(app))
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, Help) and "attack:static" in screen_text(app))
        await pilot.press(*"go to run")
        await until(lambda: "Go to Run" in screen_text(app) and "Sort" not in screen_text(app))
        await pilot.press("enter")
        await until(lambda: "[4 Run]" in screen_text(app))


async def test_what_begins_with_what_is_typed_comes_first(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        chosen: list[str | None] = []
        app.push_screen(
            Picker("Run", [Option(f"{n}   yours", n) for n in ("my-digits", "digits_b", "digits")]), chosen.append
        )
        await until(lambda: isinstance(app.screen, Picker))
        await pilot.press(*"digits")
        await until(lambda: "my-digits" in screen_text(app).split("digits_b")[1])
        await pilot.press("enter")
        assert chosen == ["digits_b"]


async def test_all_keys_are_commands_of_the_palette(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "No runs yet" in screen_text(app) and "/ filter" in screen_text(app))
        commands = {command.title for command in app.get_system_commands(app.screen)}
        assert {"filter", "Read again", "Take all marks away", "Quit", "Go to Run", "Zoom"} <= commands
        assert "Theme high-contrast" in commands
        await pilot.press("ctrl+p")
        await until(lambda: "Search for commands" in screen_text(app))


async def test_the_theme_is_remembered(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        assert app.theme == "safedl-dark"
        await pilot.press("ctrl+t", "ctrl+t")
        assert app.theme == "high-contrast"
        await pilot.press("ctrl+q")
    async with app_on(workspace) as (app, _):
        assert app.theme == "high-contrast"


@pytest.mark.parametrize("text", ["", "{", "[1]", json.dumps({"theme": 7, "runs filter": None})])
async def test_a_spoilt_memory_is_no_reason_to_stop(workspace: Workspace, text: str) -> None:
    (workspace.root / "app.json").write_text(text)
    async with app_on(workspace) as (app, _):
        assert app.theme == "safedl-dark"


async def test_two_apps_leave_what_the_other_remembers(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot), app_on(workspace) as (other, other_pilot):
        await pilot.press("ctrl+t", "ctrl+t")
        other.memory.set("runs filter", "attack:bad_nets")
        await pilot.press("ctrl+q")
        await other_pilot.press("ctrl+q")
    async with app_on(workspace) as (app, _):
        assert app.theme == "high-contrast"
        assert app.memory.get("runs filter", "") == "attack:bad_nets"


async def test_too_small_a_terminal_says_so_and_recovers(workspace: Workspace) -> None:
    driver = running(workspace)
    async with app_on(workspace, (59, 24)) as (app, pilot):
        await until(lambda: "at least 60 x 16" in screen_text(app))
        await pilot.resize_terminal(80, 15)
        await until(lambda: "at least 60 x 16" in screen_text(app))
        await pilot.resize_terminal(80, 24)
        await until(lambda: "▶ running" in screen_text(app) and "at least" not in screen_text(app))
    driver.leave()


async def test_the_focus_comes_back_after_the_terminal_was_too_small(workspace: Workspace) -> None:
    driver = running(workspace)
    async with app_on(workspace) as (app, pilot):
        tree = app.main.query_one(PlanTree)
        await until(lambda: "▶ running" in screen_text(app) and app.focused is tree)
        await pilot.resize_terminal(50, 12)
        await until(lambda: "at least 60 x 16" in screen_text(app) and app.focused is not tree)
        await app.read()
        await pilot.resize_terminal(80, 24)
        await until(lambda: app.focused is tree)
    driver.leave()


async def test_tab_stops_only_where_the_focus_can_be_seen(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "Nothing has run here yet" in screen_text(app) and app.focused is app.pane)
        driver = running(workspace)
        app.hub.look_now()
        tree = app.main.query_one(PlanTree)
        await until(lambda: app.focused is tree)
        await app.read()
        await pilot.press("tab")
        await until(lambda: isinstance(app.focused, LogView))
        await pilot.press("tab")
        await until(lambda: app.focused is tree)
    driver.leave()


async def test_the_first_scan_is_shown_when_it_ends(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    async with app_on(workspace, clock=time.monotonic) as (app, pilot):
        await until(lambda: app.hub.running)
        await pilot.press("8")
        await until(lambda: "Nothing has been scanned" in screen_text(app) and app.pane and app.pane._ran)
        add_scan(workspace, 43)
        driver.leave()
        await until(lambda: FIRST in screen_text(app))


async def test_keys_work_while_the_store_is_slow_to_answer_at_first(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, go, answered = threading.Event(), threading.Event(), threading.Event()

    def slow(*_: object, **__: object) -> None:
        asked.set()
        go.wait(60)
        answered.set()

    monkeypatch.setattr(runs, "read_page", slow)
    async with app_on(workspace) as (app, pilot):
        await until(asked.is_set)
        await pilot.press("6")
        await until(lambda: app.pane is not None and app.pane.id == "compare")
        assert not answered.is_set()
        go.set()


@pytest.mark.parametrize("dialog", ["scan", "long text"])
async def test_the_keys_of_a_dialog_are_in_view_in_a_small_terminal(workspace: Workspace, dialog: str) -> None:
    async with app_on(workspace, (60, 16)) as (app, pilot):
        if dialog == "scan":
            ask_for_scan(app)
            last = "Its weights"
        else:
            text = "\n".join(f"line {i}" for i in range(40))
            app.push_screen(Dialog("Much", text, [Choice("a", "do it", "a"), Choice("b", "or this", "b")]))
            last = "line 39"
        await until(lambda: "[esc]" in screen_text(app))
        await pilot.press(*(["down"] * 3 if dialog == "scan" else ["end"]))
        await until(lambda: last in screen_text(app) and "[esc]" in screen_text(app))


async def test_zoom_lets_a_box_fill_the_pane_and_gives_the_others_back(workspace: Workspace) -> None:
    driver = running(workspace)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: "Log" in screen_text(app) and "baseline@1" not in screen_text(app))
        await until(lambda: "▶ baseline" in screen_text(app))
        await pilot.press("z")
        await until(lambda: app.main.query_one(PlanTree).size.width > 70)
        assert "─ Log" not in screen_text(app)
        await pilot.press("z")
        await until(lambda: "─ Log" in screen_text(app))
    driver.leave()


async def test_quitting_asks_nothing_when_nothing_runs(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await pilot.press("ctrl+q")
        await until(lambda: not app.is_running)


@pytest.mark.parametrize(("key", "leaves", "stops"), [("d", True, False), ("s", True, True), ("escape", False, False)])
async def test_quitting_asks_while_something_runs(workspace: Workspace, key: str, leaves: bool, stops: bool) -> None:
    driver = running(workspace)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: app.hub.running)
        await pilot.press("ctrl+q")
        await until(lambda: isinstance(app.screen, Dialog) and "1 experiment running" in screen_text(app))
        assert "demo: 0 of 7 stages" in screen_text(app)
        await pilot.press(key)
        await until(lambda: not app.is_running if leaves else not isinstance(app.screen, Dialog))
        assert (workspace.experiment_folder(UID) / "cancel").exists() == stops
    driver.leave()


async def test_what_cannot_be_stopped_is_told_and_the_app_stays(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Workspace, uid: str) -> None:
        raise PermissionError(13, "Permission denied", str(Path("w") / "cancel"))

    monkeypatch.setattr(Workspace, "cancel", refuse)
    driver = running(workspace)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: app.hub.running)
        await pilot.press("ctrl+q", "s")
        await until(lambda: "Could not stop what runs" in screen_text(app))
        assert "permission denied" in screen_text(app)
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Dialog))
        assert app.is_running
    driver.leave()


async def test_without_colours_the_cursor_is_reversed(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    driver = running(workspace)
    async with app_on(workspace) as (app, _):
        await until(lambda: "▶ baseline" in screen_text(app))
        strips = app.screen._compositor.render_strips()
        line = next(strip for strip in strips if "›▶ baseline" in strip.text)
        assert any(segment.style is not None and segment.style.reverse for segment in line)
    driver.leave()


@pytest.mark.parametrize("restarted", [False, True])
async def test_without_colours_every_theme_can_be_read(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    for name in themes.NAMES:
        if restarted:
            (workspace.root / "app.json").write_text(json.dumps({"theme": name}))
        async with app_on(workspace) as (app, pilot):
            await until(lambda: "Nothing has run" in screen_text(app))
            while app.theme != name:
                await pilot.press("ctrl+t")
            await pilot.pause()
            segments = [segment for strip in app.screen._compositor.render_strips() for segment in strip]
            for line_filter in app._filters:
                segments = line_filter.apply(segments, app.screen.background_colors[1])
            styles = [s.style for s in segments if s.text.strip() and s.style and s.style.color]
            assert all(s.color and (s.color.is_default or s.color != s.bgcolor) for s in styles)


async def test_what_is_copied_goes_to_the_clipboard_or_a_file(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, _):
        app.copy("20260101-abc")
        assert app.clipboard == "20260101-abc"
        app.copy("x" * 80_000)
        await until(lambda: any("written to" in notification.message for notification in app._notifications))
        assert app.clipboard == "20260101-abc"


async def test_an_unexpected_fault_is_a_dialog_and_the_app_goes_on(workspace: Workspace) -> None:
    def fail() -> None:
        raise RuntimeError("[b]odd[/]")

    async with app_on(workspace) as (app, pilot):
        app.ask(app.main, "test", fail, lambda _: None, "do it")
        await until(lambda: "Could not do it" in screen_text(app))
        assert "RuntimeError: [b]odd[/]" in screen_text(app)
        await pilot.press("escape")
        await until(lambda: not isinstance(app.screen, Dialog))


async def test_a_later_question_replaces_an_earlier_one(workspace: Workspace) -> None:
    gate, answers = threading.Event(), list[str]()

    def slow() -> str:
        gate.wait(60)
        return "slow"

    async with app_on(workspace) as (app, _):
        app.ask(app.main, "test", slow, answers.append, "ask")
        app.ask(app.main, "test", lambda: "quick", answers.append, "ask")
        await until(lambda: answers == ["quick"])
        gate.set()
        app.ask(app.main, "other", lambda: "last", answers.append, "ask")
        await until(lambda: "last" in answers)
        assert answers == ["quick", "last"]


async def test_a_question_answers_to_the_key_of_help(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        await app.push_screen(Dialog("Delete it?", "For good.", (Choice("X", "delete it", "yes"),)))
        await pilot.press("question_mark")
        await until(lambda: isinstance(app.screen, Help) and "esc         Close" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, Dialog))


async def test_the_last_line_is_filled_as_far_as_there_is_room(workspace: Workspace) -> None:
    async with app_on(workspace, (120, 40)) as (app, pilot):
        await pilot.press("1")
        await until(lambda: "z zoom  o open another profile  R run this profile" in screen_text(app))
        assert screen_text(app).rstrip().endswith("^p cmds  ? help  ^q quit")
        await pilot.press("5")
        await until(lambda: "[5 Runs]" in screen_text(app) and "z zoom" in screen_text(app))
        await pilot.press("slash")
        await until(lambda: "esc clear" in screen_text(app) and "z zoom" not in screen_text(app))


def test_a_setting_of_another_type_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "app.json").write_text('{"marks": "text", "size": 3}')
    memory = Memory(tmp_path / "app.json")
    assert memory.get("marks", []) == []
    assert memory.get("size", 0) == 3


async def test_a_second_wish_to_leave_asks_no_second_time(workspace: Workspace) -> None:
    driver = running(workspace)
    async with app_on(workspace) as (app, pilot):
        await until(lambda: app.hub.running)
        for _ in range(2):
            await pilot.press("ctrl+q", "ctrl+q")
            await until(lambda: isinstance(app.screen, Dialog))
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1)
    driver.leave()
