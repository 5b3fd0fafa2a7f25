"""The Review pane: suspects as pictures, decisions by keys, and that only what is in view is read."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.text import Text

from safedl import review
from safedl.errors import UsageError
from safedl.review import IMAGES, SUSPECTS, Decision, Suspect, path_of, read_decisions
from safedl.store.reindex import reindex
from safedl.workspace import Workspace
from tests.store.samples import Workplace, experiment, run
from tests.tui.conftest import SIZES, FakeDriver, app_on, golden, screen_text, until
from tests.tui.scans import add_scan, pictures, scan_events, suspects
from tui.app import SafedlApp
from tui.panes.runs import RunsPane
from tui.services import review as service
from tui.services.review import Notebook
from tui.widgets.fillin import FillIn
from tui.widgets.modal import Dialog, Picker
from tui.widgets.suspects import SuspectGrid, layout_of

FIRST = "#100"
"""The suspect with the highest score."""


@pytest.fixture
def scanned(workspace: Workspace) -> Workspace:
    """A workspace with a scan that has 43 suspects in three groups."""
    add_scan(workspace, 43)
    return workspace


def grid_of(app: SafedlApp) -> SuspectGrid:
    return app.main.query_one(SuspectGrid)


def decided(workspace: Workspace) -> dict[int, str | int]:
    return read_decisions(workspace.results, "scan-1")


# --- screens


@pytest.mark.parametrize("size", SIZES)
async def test_screens(scanned: Workspace, size: tuple[int, int]) -> None:
    async with app_on(scanned, size) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("space", "d", "r")
        await until(lambda: len(decided(scanned)) == 3 and "1 relabelled" in screen_text(app))
        await until(lambda: "space keep" in screen_text(app))
        await golden(app, "review")


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_scan_it_says_how_to_make_one(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "Nothing has been scanned" in screen_text(app))
        await golden(app, "review_empty")
        await pilot.press("z")
        await golden(app, "review_empty")


async def test_a_scan_that_found_nothing_has_nothing_to_decide(workspace: Workspace) -> None:
    add_scan(workspace, 0)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "✓ no evidence" in screen_text(app) and "No suspects" in screen_text(app))
        await pilot.press("d", "r", "c", "n")
        await golden(app, "review_clean")
        assert not path_of(workspace.results, "scan-1").exists()


async def test_the_verdict_and_what_the_scan_could_not_see_can_be_read_by_keys(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        text = screen_text(app)
        assert "✗ poisoned · target class ankle boot · 43 suspects · false-alarm rate 0.01" in text
        assert "Triggers that change" not in text
        await pilot.press("tab", "G")
        await until(lambda: "Poison below 0.5 % of a class." in screen_text(app))


async def test_captions_say_label_score_group_detectors_and_file_and_markup_is_harmless(scanned: Workspace) -> None:
    async with app_on(scanned, (120, 40)) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("l")
        await until(
            lambda: (
                "#107 given ankle boot, looks like [red]shoe[/] · train/ankle boot/107.png" in screen_text(app)
                and "group 1 · found by activation_clustering, spectral_signatures" in screen_text(app)
            )
        )
        assert "›#107        0.977" in screen_text(app)
        assert "? undecided    g1" in screen_text(app)


async def test_pictures_are_shades_without_colours(scanned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        assert "▀" not in screen_text(app)
        assert any(line.count("@") >= 4 for line in screen_text(app).splitlines())  # the patch, in four pictures


# --- deciding


async def test_decisions_are_written_at_once_and_the_cursor_goes_on(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("space", "d", "x", "r")
        await until(lambda: decided(scanned) == {100: "keep", 107: "drop", 114: "drop", 121: 1})
        await until(lambda: "1 kept, 2 dropped, 1 relabelled · 39 undecided, dropped on export" in screen_text(app))
        await until(lambda: "5–8 of 43" in screen_text(app))
        await pilot.press("g")
        await until(lambda: "✓ keep" in screen_text(app) and "✗ drop" in screen_text(app))
        assert "→ [red]shoe[/]" in screen_text(app)
        await pilot.press("backspace")
        await until(lambda: 100 not in decided(scanned))


async def test_keys_that_are_typed_ahead_over_the_end_of_a_page_are_not_lost(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press(*"dddddddd")
        await until(lambda: decided(scanned) == {s.index: "drop" for s in suspects(43)[:8]})


async def test_undo_takes_back_one_step_after_the_other(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("d", "g", "space", "d")
        await until(lambda: decided(scanned) == {100: "keep", 107: "drop"})
        await pilot.press("5", "8", "u")  # to go away and come back loses nothing
        await until(lambda: decided(scanned) == {100: "keep"})
        assert grid_of(app).place == 1
        await pilot.press("u")
        await until(lambda: decided(scanned) == {100: "drop"})
        await pilot.press("u")
        await until(lambda: decided(scanned) == {})
        await pilot.press("u")
        await until(lambda: "nothing to take back" in screen_text(app))


async def test_a_decision_holds_for_the_whole_group_if_asked_and_undo_is_one_step(scanned: Workspace) -> None:
    group = [s for s in suspects(43) if s.group == 0]
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("c")
        await until(lambda: "WHOLE GROUP 0" in screen_text(app))
        await pilot.press("d")
        await until(lambda: decided(scanned) == {s.index: "drop" for s in group})
        await until(lambda: "group 0: 15 dropped" in screen_text(app))
        await until(lambda: grid_of(app).place == 1)  # on to the next undecided one
        assert "WHOLE GROUP" not in screen_text(app)
        await pilot.press("u")
        await until(lambda: decided(scanned) == {})


async def test_a_group_is_relabelled_each_to_what_it_looks_like_or_all_to_one_class(scanned: Workspace) -> None:
    group = [s for s in suspects(43) if s.group == 1]
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("l", "c", "r")
        await until(
            lambda: decided(scanned) == {s.index: s.proposed_label for s in group if s.proposed_label is not None}
        )
        left = sum(s.proposed_label is None for s in group)
        await until(lambda: any(f"{left} look like no other class" in said.message for said in app._notifications))
        await pilot.press("g", "l", "c", "R")
        await until(lambda: isinstance(app.screen, Picker))
        await pilot.press(*"bag", "enter")
        await until(lambda: decided(scanned) == {s.index: 3 for s in group})


async def test_escape_leaves_the_group_alone(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("c", "escape", "d")
        await until(lambda: decided(scanned) == {100: "drop"})


async def test_relabelling_asks_for_the_class_where_none_is_proposed(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("l", "l", "l", "l")
        await until(lambda: "looks like no other class" in screen_text(app))
        await pilot.press("r")
        await until(lambda: isinstance(app.screen, Picker) and "[red]shoe[/]" in screen_text(app))
        await pilot.press(*"bag", "enter")
        await until(lambda: decided(scanned) == {128: 3})


async def test_n_goes_to_the_next_undecided_suspect_and_round_to_the_first(workspace: Workspace) -> None:
    add_scan(workspace, 6)
    listed = suspects(6)
    review.decide(workspace.results, "scan-1", {s.index: "keep" for s in listed if s.group != 2})
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        for place in (2, 5, 2):
            await pilot.press("n")
            await until(lambda place=place: grid_of(app).place == place)  # type: ignore[misc]
        await pilot.press("d")
        await until(lambda: grid_of(app).place == 3)
        await pilot.press("n")
        await until(lambda: grid_of(app).place == 5)
        await pilot.press("d", "n")
        await until(lambda: "all suspects are decided" in screen_text(app))
    assert decided(workspace) == {s.index: "drop" if s.group == 2 else "keep" for s in listed}


async def test_a_decision_while_the_next_suspect_is_looked_for_hits_no_other_one(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    original = service.next_undecided

    def slow(*arguments: Any) -> int | None:
        assert go.wait(20)
        return original(*arguments)

    monkeypatch.setattr(service, "next_undecided", slow)
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("n", "d")
        go.set()
        await until(lambda: grid_of(app).place == 1)
        await pilot.press("space")
        await until(lambda: decided(scanned) == {107: "keep"})


async def test_decisions_come_back_at_the_next_start_and_reindex_leaves_them(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("d", "space", "ctrl+q")
    assert decided(scanned) == {100: "drop", 107: "keep"}
    before = path_of(scanned.results, "scan-1").read_bytes()
    Path(scanned.db).unlink()
    reindex(scanned.db, scanned.results)
    assert path_of(scanned.results, "scan-1").read_bytes() == before
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "✗ drop" in screen_text(app) and "✓ keep" in screen_text(app))


async def test_a_decision_that_cannot_be_written_is_told_and_tried_again(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise UsageError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(review, "decide", refuse)
        async with app_on(scanned) as (app, pilot):
            await pilot.press("8")
            await until(lambda: FIRST in screen_text(app))
            await pilot.press("d")
            await until(lambda: isinstance(app.screen, Dialog) and "the disk is full" in screen_text(app))
            await pilot.press("escape")
            await until(lambda: "NOT WRITTEN: the disk is full" in screen_text(app))
            patch.undo()
            await pilot.press("space")
            await until(lambda: decided(scanned) == {100: "drop", 107: "keep"})
            await until(lambda: "NOT WRITTEN" not in screen_text(app))


def test_a_notebook_writes_what_failed_with_the_next_decision() -> None:
    asked: list[dict[int, Decision | None]] = []

    def write(changes: Mapping[int, Decision | None]) -> None:
        asked.append(dict(changes))
        if len(asked) == 1:
            raise UsageError("no")

    notebook = Notebook(write)
    notebook.set({1: "keep", 2: "drop"}, 0)
    with pytest.raises(UsageError):
        notebook.write()
    assert (notebook.unwritten, notebook.problem) == (True, "no")
    notebook.set({2: None}, 1)
    notebook.write()
    assert asked[1:] == [{1: "keep", 2: None}]
    assert (notebook.unwritten, notebook.problem) == (False, "")
    assert (notebook.undo(), notebook.values) == (1, {1: "keep", 2: "drop"})


# --- long lists, pages and sizes

COUNT = 100_000


@pytest.fixture
def long(workspace: Workspace) -> Workspace:
    """A scan with 100,000 suspects, each ten thousandth of them in another group."""
    add_scan(workspace, 3, suspects=COUNT)
    folder = workspace.run_folder("scan-1")
    line = json.loads((folder / SUSPECTS).read_text().splitlines()[0])
    lines = (json.dumps({**line, "index": i, "group": 7 if i % 10_000 == 0 else 0}) for i in range(COUNT))
    (folder / SUSPECTS).write_text("\n".join(lines) + "\n")
    np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, (COUNT, 1, 28, 28))
    return workspace


async def test_of_a_long_list_only_the_pages_around_the_cursor_are_read(
    long: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    original = review.Suspect

    def counted(**values: Any) -> Suspect:
        parsed.append(values["index"])
        return original(**values)

    monkeypatch.setattr(review, "Suspect", counted)
    drawn: list[tuple[int, ...]] = []

    def draw(pixels: np.ndarray[Any, np.dtype[np.uint8]], *_: object, **__: object) -> list[Text]:
        drawn.append(pixels.shape)
        return []

    monkeypatch.setattr("tui.widgets.image.half_blocks", draw)
    async with app_on(long) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "1–4 of 100,000" in screen_text(app))
        assert max(parsed) < 12 and len(parsed) <= 12
        assert drawn == [(1, 28, 28)] * 4
        parsed.clear()
        await pilot.press("G")
        await until(lambda: "99,997–100,000 of 100,000" in screen_text(app))
        await until(lambda: "›#99999" in screen_text(app))
        assert min(parsed) >= COUNT - 8
        assert len(drawn) == 8


async def test_a_rare_group_of_a_long_list_is_decided_at_once(long: Workspace) -> None:
    async with app_on(long) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "›#0" in screen_text(app))
        await pilot.press("c", "d")
        await until(lambda: decided(long) == dict.fromkeys(range(0, COUNT, 10000), "drop"))
        await until(lambda: "10 dropped, 0 relabelled · 99,990 undecided" in screen_text(app))


async def test_pages_rows_and_sizes(scanned: Workspace) -> None:
    async with app_on(scanned, (120, 40)) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        grid = grid_of(app)
        for key, place in (("j", 6), ("l", 7), ("h", 6), ("k", 0), ("ctrl+d", 12), ("G", 42), ("l", 42), ("g", 0)):
            await pilot.press(key)
            assert grid.place == place, key
        await pilot.press("plus")
        await until(lambda: grid.page.pictures and len(grid.page.pictures[0]) == 12)
        await pilot.press("minus", "minus")
        await until(lambda: grid.page.pictures and len(grid.page.pictures[0]) == 5)
        assert len(grid.page.pictures) > 12


async def test_enter_lets_the_pictures_fill_the_pane_and_esc_shows_all_again(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("enter", "plus")
        await until(lambda: len(grid_of(app).page.pictures) == 3 and "✗ poisoned" not in screen_text(app))
        await pilot.press("escape")
        await until(lambda: "✗ poisoned" in screen_text(app) and FIRST in screen_text(app))


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (32, 32), (224, 224), (3, 500), (500, 3), (1, 1)])
@pytest.mark.parametrize("room", [(1, 1), (20, 4), (58, 7), (78, 12), (118, 24), (238, 50)])
def test_a_page_fits_its_place(shape: tuple[int, int], room: tuple[int, int]) -> None:
    for widest in (10, 18, 48):
        layout = layout_of(*room, shape, widest)
        assert layout.count >= 1
        assert layout.picture[0] <= layout.cell <= room[0]
        assert layout.columns * (layout.cell + 2) - 2 <= room[0]
        assert layout.rows == 1 or layout.rows * (layout.picture[1] + 3) <= room[1]


async def test_colour_pictures_of_another_size(workspace: Workspace) -> None:
    add_scan(workspace, 6, images=False)
    np.save(workspace.run_folder("scan-1") / IMAGES, pictures(6, channels=3, side=8))
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app) and "▀" * 16 in screen_text(app))  # each pixel twice
        assert [len(picture) for picture in grid_of(app).page.pictures] == [8] * 4


# --- what is broken


@pytest.mark.parametrize("damage", ["missing", "short", "rubbish", "flat"])
async def test_without_pictures_suspects_can_still_be_decided(workspace: Workspace, damage: str) -> None:
    add_scan(workspace, 6, images=False)
    path = workspace.run_folder("scan-1") / IMAGES
    if damage == "short":
        np.save(path, pictures(1))
    elif damage == "rubbish":
        path.write_text("no array")
    elif damage == "flat":
        np.save(path, np.zeros(6, np.uint8))
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "no picture" in screen_text(app) and FIRST in screen_text(app))
        await pilot.press("d")
        await until(lambda: decided(workspace) == {100: "drop"})


@pytest.mark.parametrize("line", ["{", '{"index": 3}', "[1]", '{"index": "x"}', "\x1b[31m"])
async def test_a_broken_list_is_a_message_and_mended_by_reading_again(scanned: Workspace, line: str) -> None:
    path = scanned.run_folder("scan-1") / SUSPECTS
    whole = path.read_text()
    path.write_text(line + "\n" + whole)
    async with app_on(scanned, (240, 40)) as (app, pilot):  # wide enough for the path of any temporary folder
        await pilot.press("8")
        await until(lambda: "suspects.jsonl: line 1 is no suspect" in screen_text(app))
        assert not isinstance(app.screen, Dialog)
        await pilot.press("d", "r", "c", "n", "u")
        assert decided(scanned) == {}
        path.write_text(whole)
        await pilot.press("f5")
        await until(lambda: FIRST in screen_text(app) and "cannot be read" not in screen_text(app))


async def test_decisions_that_cannot_be_read_are_named_and_left_alone(scanned: Workspace) -> None:
    path = path_of(scanned.results, "scan-1")
    path.parent.mkdir(parents=True)
    path.write_text("100: perhaps\n")
    async with app_on(scanned, (240, 40)) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "'100: perhaps' is no decision" in screen_text(app))
        await pilot.press("d")
    assert path.read_text() == "100: perhaps\n"


@pytest.mark.parametrize("text", ["{", "[]", '{"details": 3, "class_names": "x"}'])
async def test_a_broken_result_does_not_crash_the_list_or_the_review(scanned: Workspace, text: str) -> None:
    (scanned.run_folder("scan-1") / "result.json").write_text(text)
    async with app_on(scanned) as (app, pilot):
        await pilot.press("5")
        await until(lambda: "scan@0" in screen_text(app))
        await pilot.press("v")
        await until(lambda: "cannot be read" in screen_text(app) or "? no verdict" in screen_text(app))


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
