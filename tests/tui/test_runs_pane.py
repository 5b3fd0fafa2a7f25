from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest

from safedl.events import Event
from safedl.store.records import RunRow
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, finished, run, tree
from tests.tui.conftest import SIZES, FakeDriver, app_on, golden, recorded, screen_text, until
from tui.app import SafedlApp
from tui.panes.details import DetailsBox
from tui.panes.runs import RunsPane
from tui.services import runs as service
from tui.services.names import shortened
from tui.widgets.filter import FilterBar
from tui.widgets.modal import Dialog
from tui.widgets.runtable import RunTable

REPORT = """\
# A report

Removes samples.

## In short

- ASR went from 0.95 to 0.02.

## Layers [/b]

A layer called `layer[/conv.0]`.
"""


@pytest.fixture
def filled(workspace: Workspace) -> Workspace:
    """A workspace with a baseline, an attack, a defense and two bounds; one bound failed."""
    work = Workplace(workspace.root)
    work.begin(experiment(), tree())
    for uid, accuracy, asr in (("base", 0.99, None), ("attack", 0.985, 0.95), ("clean", 0.98, 0.02)):
        work.apply(
            _at_one_time(finished(uid, {"clean_accuracy": accuracy, **({"asr": asr} if asr is not None else {})}))
        )
    work.apply(_at_one_time(finished("perfect", {}, "failed", "the [b]reason[/] \x1b[31m")))
    work.apply(_at_one_time(finished("random", {}, "cancelled")))
    work.recorder.close()
    folder = workspace.run_folder("clean")
    (folder / "report.md").write_text(REPORT)
    return workspace


def _at_one_time(items: list[Event]) -> list[Event]:
    return [{**item, "at": "2026-01-02T03:04:05.678+00:00"} for item in items]


def pane_of(app: SafedlApp) -> RunsPane:
    return app.main.query_one(RunsPane)


def shown(app: SafedlApp) -> list[str]:
    return [row.record.uid for row in pane_of(app).table.rows]


@pytest.mark.parametrize("size", SIZES)
async def test_an_empty_workspace_says_how_to_begin(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "No runs yet" in screen_text(app) and "/ filter" in screen_text(app))
        await until(lambda: "space mark" not in screen_text(app))
        await golden(app, "runs_empty")


@pytest.mark.parametrize("size", SIZES)
async def test_screens(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5 and "ASR went" not in screen_text(app))
        await pilot.press("j", "j", "space", "k")
        await until(lambda: "ASR went from 0.95 to 0.02" in screen_text(app) and "1 marked" in screen_text(app))
        assert "1 marked · c compares, u unmarks" in screen_text(app)
        await pilot.pause()
        text = screen_text(app)
        assert "✗ failed" in text
        assert "■ cancel" in text
        row = next(line for line in text.splitlines() if "[x]" in line)
        assert "static_patch/data_cleaning" in row
        assert row.split()[-4:-1] == ["0.020", "✓", "done"] and "0.980" in row
        await golden(app, "runs")


async def test_typing_a_filter_narrows_and_esc_shows_all_again(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("slash", *"attack:static acc>0.9")
        await until(lambda: shown(app) == ["clean", "attack"])
        assert "2 of 5" in screen_text(app)
        await pilot.press("enter", "escape")
        await until(lambda: len(shown(app)) == 5)


async def test_a_filter_without_meaning_says_so_in_place(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("slash", *"atack:x")
        await until(lambda: "there is no field 'atack'" in screen_text(app))
        assert not isinstance(app.screen, Dialog)


async def test_a_filter_that_a_single_run_has_put_aside_comes_back(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("slash", *"acc>0.98", "enter")
        await until(lambda: shown(app) == ["attack", "base"])
        await pilot.press("7")
        await app.open_run("random")
        await until(lambda: len(shown(app)) == 5 and "Runs · all" in screen_text(app))
        await pilot.press("7", "5")
        await until(lambda: shown(app) == ["attack", "base"] and "Runs · acc>0.98" in screen_text(app))
        assert app.memory.get(f"runs filter {filled.root}", "") == "acc>0.98"


async def test_where_nothing_matches_keys_are_the_panes_once_the_filter_is_left(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("slash", *"acc>2")
        await until(lambda: "Nothing matches" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: app.focused is app.pane)
        await pilot.press("4")
        await until(lambda: app.pane is not None and app.pane.id == "run")
        await pilot.press("5")
        await until(lambda: app.focused is app.pane and "Runs · acc>2" in screen_text(app))
        await pilot.press("ctrl+q")
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "Nothing matches" in screen_text(app) and app.focused is app.pane)
        await pilot.press("escape")
        await until(lambda: len(shown(app)) == 5 and app.main.query_one("#table").has_focus)


async def test_a_run_that_a_dead_driver_left_is_told_with_what_to_do(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    work.begin(experiment(), [run("base")])
    work.recorder.close()
    async with app_on(workspace, (120, 40)) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "1 run was left unfinished by a driver" in screen_text(app))
        assert "r goes on" in screen_text(app)


async def test_another_workspace_has_a_filter_of_its_own(filled: Workspace, tmp_path: Path) -> None:
    root = tmp_path / "other"
    root.mkdir()
    shutil.copytree(filled.results, root / "results")
    shutil.copy(filled.db, root / "safedl.db")
    (root / "app.json").write_text(json.dumps({f"runs filter {filled.root}": "acc>2"}))
    async with app_on(Workspace.open(root, root / "safedl.db")) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)


async def test_a_state_that_is_none_is_answered_with_the_states(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("slash", *"status:don")
        await until(lambda: "States: done, failed, cancelled" in screen_text(app))


async def test_the_order_is_found_by_the_columns_heading_and_a_miss_is_told(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("s", *"asrx")
        await until(lambda: "nothing matches" in screen_text(app))
        await pilot.press("backspace", "enter")
        await until(lambda: pane_of(app).order.by == "asr" and "nothing matches" not in screen_text(app))


def test_a_long_name_is_cut_where_it_still_tells_runs_apart() -> None:
    name = "static_patch/random_removal (activation_clustering)"
    assert shortened(name, 60) == name
    assert shortened("static_patch/data_cleaning", 20) == "stati…/data_cleaning"
    bounds = [f"static_patch/{b} ({d})" for b in ("random_removal", "perfect_removal") for d in ("strip", "spectre")]
    for cells in (22, 25, 40):
        short = [shortened(text, cells) for text in bounds]
        assert len({*short}) == len(bounds) and all(len(text) <= cells for text in short)


def test_in_the_smallest_terminal_names_get_the_room_of_the_data() -> None:
    table = RunTable(set(), lambda: 0.0, id="runs")
    assert "attack / defense" in table.head(58).plain and "data" not in table.head(58).plain
    assert " data " in table.head(78).plain


async def test_filter_order_and_marks_are_remembered(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("space", "s", *"success", "enter")
        await until(lambda: shown(app)[:2] == ["attack", "clean"])
        await pilot.press("S")
        await until(lambda: shown(app)[:2] == ["clean", "attack"])
        await pilot.press("ctrl+q")
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: shown(app)[:2] == ["clean", "attack"])
        assert app.marked == {"random"}


async def test_tabs_show_report_metrics_log_and_parameters(filled: Workspace) -> None:
    async with app_on(filled, (100, 30)) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("j", "j")
        await until(lambda: "ASR went from" in screen_text(app))
        await pilot.press("right_square_bracket", "enter", "j", "j")
        await until(lambda: "A layer called layer[/conv.0]." in screen_text(app))
        assert "Layers [/b]" in screen_text(app)
        await pilot.press("right_square_bracket")
        await until(lambda: "no pictures" in screen_text(app))
        await pilot.press("right_square_bracket")
        await until(lambda: "clean_accuracy" in screen_text(app) and "0.98" in screen_text(app))
        await pilot.press("right_square_bracket")
        await until(lambda: "hello" in screen_text(app) and "completed" in screen_text(app))
        await pilot.press("right_square_bracket")
        await until(lambda: "attack.poison_fraction" in screen_text(app))
        await pilot.press("escape")
        assert pane_of(app).table.has_focus


async def test_why_a_run_failed_is_shown_plainly(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("j")
        await until(lambda: r"why: the [b]reason[/] \x1b[31m" in screen_text(app))


async def test_pictures_are_drawn_and_unreadable_ones_are_named(filled: Workspace) -> None:
    from PIL import Image

    folder = filled.run_folder("attack")
    Image.new("RGB", (8, 8), (255, 0, 0)).save(folder / "trigger.png")
    (folder / "mask.png").write_text("no picture")
    async with app_on(filled, (100, 30)) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("j", "j", "j", "right_square_bracket", "right_square_bracket")
        await until(lambda: "picture 1 of 2" in screen_text(app) and "▀▀▀▀▀▀▀▀" in screen_text(app))
        assert "cannot be shown" in screen_text(app)


async def test_a_run_is_deleted_after_a_question_unless_others_start_from_it(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("X")
        await until(lambda: isinstance(app.screen, Dialog))
        await pilot.press("escape")
        assert filled.run_folder("random").exists()
        await pilot.press("X", "X")
        await until(lambda: len(shown(app)) == 4)
        assert not filled.run_folder("random").exists()
        await pilot.press("G", "X", "X")
        await until(lambda: "Could not delete run" in screen_text(app))
        assert "runs start from it" in " ".join(screen_text(app).split())
        assert filled.run_folder("base").exists()


async def test_retry_resumes_the_runs_experiment(filled: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    resumed: list[str] = []
    monkeypatch.setattr(Workspace, "resume", lambda self, uid: resumed.append(uid))
    async with app_on(filled) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 5)
        await pilot.press("j", "r")
        await until(lambda: resumed == ["e1"])


async def test_pages_are_read_as_the_cursor_goes_down(workspace: Workspace) -> None:
    many(workspace)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 200)
        await pilot.press("G")
        await until(lambda: len(shown(app)) == 400)
        await pilot.press("G")
        await until(lambda: len(shown(app)) == 450)
        assert shown(app) == [f"r{i:04}" for i in reversed(range(450))]


def many(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    work.begin(experiment(), [run(f"r{i:04}") for i in range(450)])
    work.recorder.close()


def current(app: SafedlApp) -> str | None:
    row = pane_of(app).table.current
    return row.record.uid if row else None


@pytest.mark.parametrize("remembered", ["", "model:cnn", "model:none"])
async def test_an_old_run_that_was_asked_for_stays(workspace: Workspace, remembered: str) -> None:
    many(workspace)
    (workspace.root / "app.json").write_text(json.dumps({f"runs filter {workspace.root}": remembered}))
    async with app_on(workspace) as (app, pilot):
        await app.open_run("r0003")
        await until(lambda: current(app) == "r0003")
        pane = pane_of(app)
        assert pane.filter == "" and not pane.query_one(FilterBar).has_class("-open")
        for _ in range(2):
            before = pane.page
            await pilot.press("f5")
            await until(lambda before=before: pane.page is not before)  # type: ignore[misc]
            assert shown(app)[:2] == ["r0003", "r0449"] and current(app) == "r0003"
        await pilot.press("G")
        await until(lambda: len(shown(app)) == 401)
        await pilot.press("G")
        await until(lambda: len(shown(app)) == 450 and shown(app).count("r0003") == 1)
        await pilot.press("S")
        await until(lambda: shown(app)[0] == "r0000")


async def test_a_run_that_is_gone_is_told(filled: Workspace) -> None:
    async with app_on(filled) as (app, _):
        await app.open_run("never")
        await until(lambda: "there is no run never any more" in screen_text(app) and len(shown(app)) == 5)


async def test_reading_again_while_a_page_is_read_does_not_end_the_list(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(workspace)
    go, original, asked = threading.Event(), service.read_more, list[int]()

    def slow(workspace: Workspace, filter: str, order: service.Order, rows: list[RunRow]) -> list[RunRow]:
        asked.append(len(rows))
        if len(asked) == 1:
            go.wait(60)
        return original(workspace, filter, order, rows)

    monkeypatch.setattr(service, "read_more", slow)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("5")
        await until(lambda: len(shown(app)) == 200)
        await pilot.press("G")
        await until(lambda: asked)
        await pilot.press("f5")
        await until(lambda: len(shown(app)) == 400)
        go.set()


async def test_a_store_that_cannot_be_used_is_named_in_place(workspace: Workspace) -> None:
    Path(workspace.db).write_text("this is not a database" * 100)
    async with app_on(workspace, (240, 40)) as (app, pilot):  # wide enough for the path of any temporary folder
        await pilot.press("5")
        await until(lambda: "The runs cannot be read" in screen_text(app))
        assert "safedl.db" in screen_text(app)


async def test_a_stage_that_ended_opens_its_run(filled: Workspace) -> None:
    items = recorded()
    items[0] = {**items[0], "stages": [{**items[0]["stages"][0], "uid": "base"}]}
    driver = FakeDriver(filled, [items[0], {**items[38], "uid": "base"}], "f1")
    driver.say()
    driver.leave()
    async with app_on(filled) as (app, pilot):
        await until(lambda: "✓ baseline" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: app.pane is not None and app.pane.id == "runs" and len(shown(app)) == 5)
        await until(lambda: (row := pane_of(app).table.current) is not None and row.record.uid == "base")
        await until(lambda: (row := app.main.query_one(DetailsBox).row) is not None and row.record.uid == "base")


def test_pages_in_any_order_follow_each_other(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    work.begin(experiment(), [run(f"r{i:04}", seed=i % 2) for i in range(450)])
    work.recorder.close()
    order = service.Order("model", False)
    page = service.read_page(workspace, "", order)
    more = service.read_more(workspace, "", order, page.rows)
    assert len(more) == service.PAGE
    assert not {row.record.uid for row in page.rows} & {row.record.uid for row in more}
    some = service.read_page(workspace, "seed:1", order)
    assert (len(some.rows), some.found, some.total) == (service.PAGE, 225, 450)
