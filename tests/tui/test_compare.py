from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.text import Text
from textual.pilot import Pilot

from safedl.evaluation.documents import ranking_sections
from safedl.events import event
from safedl.store.recorder import Recorder
from safedl.workspace import Workspace
from tests.conclusions.measured import METRICS, PROFILE, ran
from tests.store.samples import Workplace
from tests.tui.conftest import SIZES, FakeDriver, app_on, golden, recorded, screen_text, until
from tui.app import SafedlApp
from tui.panes.compare import ComparePane
from tui.services import comparison


@pytest.fixture
def filled(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace where two attacks and their defenses were measured on one seed."""
    work = Workplace(workspace.root)
    ran(work, seeds=[0])
    work.recorder.close()
    yield workspace


def pane_of(app: SafedlApp) -> ComparePane:
    return app.main.query_one(ComparePane)


async def open_pane(app: SafedlApp, pilot: Pilot[None]) -> ComparePane:
    await pilot.press("6")
    await until(lambda: app.pane is not None and app.pane.id == "compare")
    pane = pane_of(app)
    await until(lambda: pane.overview is not None)
    return pane


async def mark_static_patch(pane: ComparePane, pilot: Pilot[None]) -> None:
    """Mark the undefended model and the defenses of the second ranking, and put them side by side."""
    heading = next(
        i for i, x in enumerate(pane.rankings.lines) if x.entry is None and x.ranking.attack != "label_flipping"
    )
    pane.rankings.cursor = heading
    await pilot.press("space", "r")
    await until(lambda: len(pane.grid.runs) == 4 and pane.grid.has_focus)


def line(app: SafedlApp, start: str) -> str:
    return next(x for x in screen_text(app).splitlines() if x[2:].lstrip().startswith(start))


@pytest.mark.parametrize("size", SIZES)
async def test_nothing_to_compare(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, pilot):
        await open_pane(app, pilot)
        await until(lambda: "Mark runs in Runs (5) with space" in screen_text(app))
        await golden(app, "compare_empty")


async def test_a_store_that_cannot_be_used_is_named_in_place(workspace: Workspace) -> None:
    workspace.db.write_bytes(b"rubbish" * 1000)
    async with app_on(workspace) as (app, pilot):
        app.marked.update({"one", "two"})
        await pilot.press("6")
        await until(lambda: "The runs cannot be read." in screen_text(app))
        await until(lambda: app.pane is not None and "damaged or not a store" in app.pane.status)
        assert len(app.screen_stack) == 1 and not app._news and "reading …" not in screen_text(app)
        workspace.db.unlink()
        await until(lambda: app.focused is app.pane)  # the table had it, and was hidden
        await pilot.press("f5")
        await until(lambda: "Mark runs in Runs (5) with space" in screen_text(app))


async def test_rankings_of_a_part_of_the_runs_say_so(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui.services.comparison.MOST_COMPARED", 3)
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await until(lambda: pane.status.startswith("only the newest 10,000 runs are compared · "))


@pytest.mark.parametrize("size", SIZES)
async def test_rankings_while_nothing_is_marked(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        pane = await open_pane(app, pilot)
        await until(lambda: "static_patch" in screen_text(app))
        places = {x.entry.defense: x.entry.place for x in pane.rankings.lines if x.entry is not None}
        assert places["spectral_signatures"] == 1 and places["perfect_removal"] is None
        assert "1. spectral_signatures ★" in screen_text(app)
        await golden(app, "compare_rankings")


async def test_attacks_that_differ_in_parameters_alone_are_told_apart(filled: Workspace) -> None:
    work = Workplace(filled.root)
    ran(work, PROFILE.replace("target_class: 2", "target_class: 3"), "e2", seeds=[0])
    work.recorder.close()
    async with app_on(filled, (160, 60)) as (app, pilot):
        pane = await open_pane(app, pilot)
        recipes = [r.recipe[:8] for r in pane.ranked_attacks if r.attack == "static_patch"]
        assert len(set(recipes)) == 2
        await until(lambda: all(f"static_patch ({recipe})" in screen_text(app) for recipe in recipes))
        assert "label_flipping (" not in screen_text(app)
        sections = ranking_sections(pane.ranked_attacks, lambda uid: uid, {})
        assert [f"static_patch ({recipe}) on" in "".join(sections) for recipe in recipes] == [True, True]


@pytest.mark.parametrize("size", SIZES)
async def test_marked_runs_side_by_side(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await pilot.pause()
        assert pane.grid.runs[0].label == "undefended"
        assert "0.960" in line(app, "↓ asr")
        await golden(app, "compare_marked")


async def test_runs_that_differ_in_their_seed_alone_are_told_apart(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    ran(work, seeds=[0, 1])
    work.recorder.close()
    async with app_on(workspace) as (app, pilot):
        pane = await open_pane(app, pilot)
        line = next(x for x in pane.rankings.lines if x.entry and x.entry.defense == "activation_clustering")
        app.marked.update(line.runs)
        await pilot.press("r")
        await until(lambda: len(pane.grid.runs) == 2 and "@1" in screen_text(app).splitlines()[2])
        assert "@0" in screen_text(app).splitlines()[2]


async def test_changes_and_stars_are_those_of_the_figures(filled: Workspace) -> None:
    async with app_on(filled, (160, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        before, after = METRICS["static_patch"]["asr"], METRICS["spectral_signatures"]["asr"]
        await until(lambda: f"{after:.3f} -{before - after:.3f}".replace("-0", "-") in line(app, "↓ asr"))
        asr = line(app, "↓ asr")
        assert asr.count("★") == 1 and "0.000 -.960 ★" in asr  # nothing is less than no accuracy at all
        assert "0.950 +.920 ★" in line(app, "↑ robust_accuracy")


async def test_rankings_come_when_an_experiment_ends(workspace: Workspace) -> None:
    driver = FakeDriver(workspace, recorded())
    async with app_on(workspace, clock=time.monotonic) as (app, pilot):
        await until(lambda: app.hub.running)
        pane = await open_pane(app, pilot)
        await until(lambda: "Mark runs in Runs (5) with space" in screen_text(app) and pane._ran)
        work = Workplace(workspace.root)
        ran(work, seeds=[0])
        work.recorder.close()
        driver.leave()
        await until(lambda: pane.ranked_attacks and "spectral_signatures" in screen_text(app))


async def test_rankings_that_come_as_the_console_is_asked_for_leave_it_the_focus(filled: Workspace) -> None:
    async with app_on(filled, (120, 40)) as (app, pilot):
        await app.action_go("compare")
        pane = pane_of(app)
        await until(lambda: pane.overview is not None and pane.rankings.has_focus)
        overview = pane.overview
        assert overview is not None
        app.call_later(pane.action_sql)
        app.call_later(pane._take_overview, overview)  # before the editor has heard of its focus
        await until(lambda: pane.console.editor.has_focus)
        await pilot.pause()
        assert app.focused is pane.console.editor


async def test_the_pane_itself_has_the_focus_until_there_is_something_to_show(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, may_answer = comparison.read_overview, threading.Event()

    def slowly(workspace: Workspace) -> comparison.Overview:
        assert may_answer.wait(60)
        return read(workspace)

    monkeypatch.setattr(comparison, "read_overview", slowly)
    monkeypatch.setattr(comparison, "read_marked", lambda *_: may_answer.wait(60) and [])
    async with app_on(filled, (120, 40)) as (app, _):
        await app.action_go("compare")
        pane = pane_of(app)
        await until(lambda: app.focused is not None and app.focused.has_focus)
        assert app.focused is pane
        may_answer.set()
        await until(lambda: app.focused is pane.rankings)


async def test_another_baseline_turns_changes_round(filled: Workspace) -> None:
    async with app_on(filled, (160, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        place = next(i for i, r in enumerate(pane.grid.runs) if r.label == "spectral_signatures")
        pane.grid.column = place + 1
        await pilot.press("b")
        await pilot.pause()
        assert pane.grid.runs[0].label == "spectral_signatures"
        assert "0.960 +.940" in line(app, "↓ asr")


async def test_turning_the_table_keeps_the_cell(filled: Workspace) -> None:
    async with app_on(filled, (160, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await pilot.press("j", "j", "l")
        metric, run = pane.grid.metric, pane.grid.current
        await pilot.press("t")
        assert pane.grid.transposed and (pane.grid.metric, pane.grid.current) == (metric, run)
        await until(lambda: line(app, "= undefended"))
        await pilot.press("t")
        assert (pane.grid.metric, pane.grid.current) == (metric, run)
        assert line(app, "↓ asr")


async def test_runs_are_dropped_added_and_remembered(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        dropped = pane.grid.runs[1].record.uid
        await pilot.press("l", "minus")
        await until(lambda: len(pane.grid.runs) == 3)
        assert dropped not in app.marked
        await pilot.press("plus")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*dropped, "enter")
        await until(lambda: len(pane.grid.runs) == 4)
        assert dropped in app.marked
        app.memory.save()
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await until(lambda: len(pane.grid.runs) == 4)
        await pilot.press("u")
        await until(lambda: pane.shows_rankings and not app.marked)


async def test_rankings_are_there_again_when_the_last_mark_is_gone(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        for key in ("u", "r"):
            await pilot.press(key)
            await until(lambda: not pane.grid.runs and pane.rankings.has_focus)
            assert "nothing has been measured" not in screen_text(app)
            assert pane.status.startswith("nothing is marked: space marks")


async def test_plots(filled: Workspace) -> None:
    async with app_on(filled, (120, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await until(lambda: "█" in screen_text(app))
        await pilot.press("v")
        await until(lambda: "loss" in screen_text(app) and "step 1" in screen_text(app))
        await pilot.press("v")
        await until(lambda: "A undefended" in screen_text(app) and "ASR" in screen_text(app))


async def test_the_key_of_curves_is_offered_with_curves_and_they_grow(filled: Workspace) -> None:
    async with app_on(filled, (120, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await until(lambda: "t transpose" in screen_text(app))
        assert "c next curve" not in screen_text(app)
        await pilot.press("v")
        await until(lambda: "c next curve" in screen_text(app) and "step 1" in screen_text(app))
        uid = pane.grid.runs[0].record.uid
        Recorder(filled.db).apply([event("metric", uid, name="loss", step=7, value=0.5)])
        await pilot.press("f5")
        await until(lambda: "step 7" in screen_text(app))


async def test_a_plane_that_comes_late_takes_the_place_of_no_other_plot(
    filled: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly(*_: object) -> Text:
        begun.set()
        assert go_on.wait(60)
        return Text("THE PLANE")

    monkeypatch.setattr("tui.services.plots.scatter", slowly)
    async with app_on(filled, (120, 40)) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await pilot.press("v", "v")
        await until(begun.is_set)
        await pilot.press("v")
        await until(lambda: "█" in screen_text(app))
        go_on.set()
        await until(lambda: not any(worker.is_running for worker in app.workers if worker.group == "plane"))
        await pilot.pause()
        assert "THE PLANE" not in screen_text(app) and "█" in screen_text(app)


async def test_what_is_not_shown_is_not_exported(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await pilot.press("r")
        await until(lambda: pane.shows_rankings)
        await pilot.press("E")
        await until(lambda: "E exports the marked runs" in screen_text(app))
        assert len(app.screen_stack) == 1


async def test_enter_opens_the_run_under_the_cursor(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        uid = pane.grid.runs[0].record.uid
        await pilot.press("enter")
        await until(lambda: app.pane is not None and app.pane.id == "runs" and uid in screen_text(app))


async def test_the_table_as_a_file(filled: Workspace, tmp_path: Path) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await mark_static_patch(pane, pilot)
        await pilot.press("E")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press("enter")
        path = filled.root / "comparison.csv"
        await until(path.exists)
        rows = path.read_text().splitlines()
        assert len(rows) == 5 and rows[0].startswith("uid,label,dataset,model,attack,defense,seed,clean_accuracy,asr")
        path.write_text("mine")
        await until(lambda: len(app.screen_stack) == 1)
        await pilot.press("E")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press("enter")
        await until(lambda: "comparison.csv exists" in screen_text(app))
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        assert path.read_text() == "mine"


def test_the_overview_is_of_the_newest_runs_data_set_and_model(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    ran(work, PROFILE.replace("name: cnn", "name: mlp"), uid="e0", seeds=(0,))
    ran(work, uid="e1", seeds=(0,), statuses={"label_flipping@0": "failed"})
    work.recorder.close()
    assert {ranking.model for ranking in comparison.read_overview(workspace).rankings} == {"cnn"}
    found = [record.stage for record in comparison.newest_runs(workspace) if record.attack == "label_flipping"]
    assert found.count("label_flipping@0") == 1  # what failed cannot be compared
