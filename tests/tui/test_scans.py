"""Scans in the app: the ways to their suspects, and how one is started."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from textual.events import Key

from safedl.errors import UsageError
from safedl.review import read_decisions
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, run
from tests.tui.conftest import SIZES, FakeDriver, app_on, golden, screen_text, until
from tests.tui.scans import FIRST, add_scan, decided, grid_of, scan_events
from tui.panes.runs import RunsPane
from tui.widgets.fillin import Field, FillIn
from tui.widgets.modal import Dialog


@pytest.fixture
def scanned(workspace: Workspace) -> Workspace:
    """A workspace with a scan that has 43 suspects in three groups."""
    add_scan(workspace, 43)
    return workspace


# --- the ways there


async def test_runs_shows_a_scan_and_v_reviews_it(scanned: Workspace) -> None:
    async with app_on(scanned, (120, 40)) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "Two detectors agree on 38 samples" in screen_text(app))
        text = screen_text(app)
        assert "✗ poisoned · target class ankle boot · 43 suspects · false-alarm rate 0.01" in text
        assert "Poison below 0.5 % of a class." in text
        row = next(line for line in text.splitlines() if "› " in line or "›[" in line)
        assert row.replace("┃", "").split()[3:] == ["Jan", "02", "scan", "scan", "mine", "cnn", "0", "12", "✓", "done"]
        await golden(app, "runs_scan")
        await pilot.press("v")
        await until(lambda: "[8 Review]" in screen_text(app) and FIRST in screen_text(app))


async def test_other_runs_have_nothing_to_review(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    work.begin(experiment(), [run("base")])
    work.recorder.close()
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(app.main.query_one(RunsPane).table.rows) == 1)
        await pilot.press("v")
        await until(lambda: "only a scan that is done" in screen_text(app))


async def test_the_run_pane_follows_a_scan_and_v_reviews_it(scanned: Workspace) -> None:
    items = scan_events()
    driver = FakeDriver(scanned, items, "e-scan-1")
    driver.say(len(items) - 1)
    async with app_on(scanned) as (app, pilot):
        await until(lambda: "▶ scan" in screen_text(app) and "30%" in screen_text(app))
        assert "left" not in screen_text(app)
        assert "v review" not in screen_text(app)
        driver.say()
        driver.leave()
        app.hub.look_now()
        await until(lambda: "v reviews the suspects" in screen_text(app) and "✓ scan" in screen_text(app))
        await pilot.press("v")
        await until(lambda: "[8 Review]" in screen_text(app) and FIRST in screen_text(app))


async def test_o_opens_another_scan_from_its_first_suspect_on(scanned: Workspace) -> None:
    add_scan(scanned, 5, "scan-2", verdict="suspicious")
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "! suspicious" in screen_text(app) and "1–4 of 5" in screen_text(app))
        await pilot.press("d", "o", *"scan-1", "enter")
        await until(lambda: "✗ poisoned" in screen_text(app) and "1–4 of 43" in screen_text(app))
        assert grid_of(app).place == 0
        assert read_decisions(scanned.results, "scan-2") == {100: "drop"}
        await pilot.press("space")
        await until(lambda: decided(scanned) == {100: "keep"})


# --- starting a scan


@pytest.mark.parametrize("size", SIZES)
async def test_the_form_says_what_it_needs(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, pilot):
        await until(lambda: "s      scan data" in screen_text(app))
        await pilot.press("s")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press("ctrl+s")
        await until(lambda: "name the data to scan" in screen_text(app))
        await pilot.press(*"nowhere.npz", "ctrl+s")
        await until(lambda: "no such file or folder: nowhere.npz" in screen_text(app))
        await golden(app, "scan_form")


async def test_a_scan_is_started_from_anywhere_and_watched(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str | None, ...]] = []
    drivers: list[FakeDriver] = []

    def start(self: Workspace, data: str, trusted: str | None, model: str | None, weights: str | None) -> str:
        asked.append((data, trusted, model, weights))
        drivers.append(FakeDriver(self, scan_events(["running"]), "e-scan-1"))
        drivers[0].say()
        return "e-scan-1"

    monkeypatch.setattr(Workspace, "start_scan", start)
    (tmp_path / "d.npz").touch()
    (tmp_path / "net.py").touch()
    monkeypatch.chdir(tmp_path)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5", "ctrl+n")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press(*"d.npz", "enter", "enter", *"net.py", "enter", "enter")
        await until(lambda: asked == [("d.npz", None, "net.py", None)])
        await until(lambda: "[4 Run]" in screen_text(app) and "scan" in screen_text(app) and "30%" in screen_text(app))


async def test_what_the_scan_refuses_is_told_and_the_form_keeps_what_was_written(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def start(*_: object) -> str:
        raise UsageError("d.npz holds no x_train")

    monkeypatch.setattr(Workspace, "start_scan", start)
    (tmp_path / "d.npz").touch()
    monkeypatch.chdir(tmp_path)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "Nothing has been scanned" in screen_text(app))
        await pilot.press("s")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press(*"d.npz", "tab", "tab", *"mlp", "ctrl+s")
        await until(lambda: isinstance(app.screen, Dialog) and "d.npz holds no x_train" in screen_text(app))
        assert "Could not start the scan" in screen_text(app)
        await pilot.press("escape", "ctrl+n")
        await until(lambda: isinstance(app.screen, FillIn))
        await until(lambda: "┃ d.npz" in screen_text(app) and "┃ mlp  " in screen_text(app))


async def test_the_palette_offers_to_scan(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, _):
        commands = [command.title for command in app.get_system_commands(app.screen)]
        assert commands.count("Scan data of your own") == 1


# --- taking home


@pytest.mark.parametrize("way", ["5", "8"])
async def test_t_takes_data_and_model_home(
    scanned: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    taken: list[tuple[str, Mapping[str, Path]]] = []

    def export(_: Workspace, uid: str, targets: Mapping[str, Path]) -> str:
        taken.append((uid, targets))
        return "957 kept, 43 dropped"

    monkeypatch.setattr(Workspace, "export", export)
    (tmp_path / "there.npz").touch()
    async with app_on(scanned) as (app, pilot):
        await pilot.press(way)
        await until(lambda: "poisoned" in screen_text(app))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, FillIn))
        await pilot.press("ctrl+s")
        await until(lambda: "name a file in at least one of the lines" in screen_text(app))
        app.screen.query_one("#line-data", Field).value = str(tmp_path / "there.npz")
        await pilot.press("ctrl+s")
        await until(lambda: "exists already" in screen_text(app))
        app.screen.query_one("#line-data", Field).value = "~nobody-of-that-name/clean.npz"
        await pilot.press("ctrl+s")
        await until(lambda: "home directory" in screen_text(app))
        app.screen.query_one("#line-data", Field).value = str(tmp_path / "clean.npz")
        await pilot.press("ctrl+s")
        await until(lambda: isinstance(app.screen, Dialog) and "957 kept, 43 dropped" in screen_text(app))
    assert taken == [("scan-1", {"data": tmp_path / "clean.npz"})]


async def test_what_is_typed_ahead_lands_in_the_line_that_it_was_typed_for(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, FillIn) and isinstance(app.focused, Field))
        for key in ("a", "b", "enter", "c", "tab", "d", "e", "up", "end", "f"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        written = app.screen.query(Field)
        await until(lambda: [field.value for field in written] == ["ab", "cf", "de"])


async def test_an_export_that_is_refused_says_why(scanned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Workspace, uid: str, targets: Mapping[str, Path]) -> str:
        raise UsageError(f"{uid} has no model of its own")

    monkeypatch.setattr(Workspace, "export", refuse)
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, FillIn))
        app.screen.query_one("#line-model", Field).value = "/new/model.pt2"
        await pilot.press("ctrl+s")
        await until(lambda: "Could not export the run" in screen_text(app) and "has no model" in screen_text(app))


async def test_two_exports_of_a_run_are_both_told_and_said_to_go_on(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def export(_: Workspace, uid: str, targets: Mapping[str, Path]) -> str:
        assert go.wait(60)
        return f"wrote {', '.join(targets)}"

    monkeypatch.setattr(Workspace, "export", export)
    monkeypatch.setattr("tui.panes.takeout.REMINDED", 3)
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        for line, name in (("data", "/new/data.npz"), ("model", "/new/model.pt2")):
            await pilot.press("t")
            await until(lambda: isinstance(app.screen, FillIn))
            app.screen.query_one(f"#line-{line}", Field).value = name
            await pilot.press("ctrl+s")
            await until(lambda: not isinstance(app.screen, FillIn))
        await until(lambda: "still exporting scan-1" in screen_text(app))
        go.set()
        told = set()
        for _ in range(2):
            await until(lambda: isinstance(app.screen, Dialog) and "wrote" in screen_text(app))
            told |= {name for name in ("data", "model") if f"wrote {name}" in screen_text(app)}
            await pilot.press("escape")
        assert told == {"data", "model"}


async def test_news_wait_until_nobody_is_asked_anything(scanned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()

    def refuse(_: Workspace, uid: str, targets: Mapping[str, Path]) -> str:
        assert go.wait(60)
        raise UsageError("no space")

    monkeypatch.setattr(Workspace, "export", refuse)
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "poisoned" in screen_text(app))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, FillIn))
        app.screen.query_one("#line-model", Field).value = "out.pt"
        await pilot.press("ctrl+s")
        await until(lambda: "must end in .safetensors, .pt2, .onnx" in screen_text(app))
        app.screen.query_one("#line-model", Field).value = "out.pt2"
        await pilot.press("ctrl+s")
        await until(lambda: not isinstance(app.screen, FillIn))
        await pilot.press("t")
        await until(lambda: isinstance(app.screen, FillIn))
        go.set()
        await until(lambda: "could not export the run" in screen_text(app))
        await pilot.press(*"abc")
        assert isinstance(app.screen, FillIn) and app.screen.query_one("#line-data", Field).value == "abc"
        await pilot.press("escape")
        await until(lambda: isinstance(app.screen, Dialog) and "no space" in screen_text(app))


async def test_what_was_scanned_in_another_workspace_is_not_offered_here(workspace: Workspace) -> None:
    written = {"data": "photos", "trusted": "known", "model": "", "weights": ""}
    async with app_on(workspace) as (app, pilot):
        app.memory.set("scan /elsewhere", written)
        for value in ("", "photos"):
            await pilot.press("ctrl+n")
            await until(lambda: isinstance(app.screen, FillIn) and app.screen.query("#line-data"))
            assert app.screen.query_one("#line-data", Field).value == value
            await pilot.press("escape")
            await until(lambda: len(app.screen_stack) == 1)
            app.memory.set(f"scan {workspace.root}", written)
