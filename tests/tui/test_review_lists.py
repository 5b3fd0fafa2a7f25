"""The Review pane with long lists, other sizes, and what is broken: only what is in view is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from rich.text import Text

from safedl import review
from safedl.errors import UsageError
from safedl.review import IMAGES, SUSPECTS, Decision, Suspect, path_of
from safedl.workspace import Workspace
from tests.tui.conftest import app_on, screen_text, until
from tests.tui.scans import FIRST, add_scan, decided, grid_of, pictures
from tui.panes.review import ReviewPane
from tui.services import review as service
from tui.services.review import Notebook
from tui.widgets.modal import Dialog
from tui.widgets.suspects import SuspectGrid, layout_of


@pytest.fixture
def scanned(workspace: Workspace) -> Workspace:
    """A workspace with a scan that has 43 suspects in three groups."""
    add_scan(workspace, 43)
    return workspace


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


def test_a_page_comes_with_its_neighbours(scanned: Workspace) -> None:
    page = service.read_page(scanned, service.open_scan(scanned, "scan-1"), 10, 5, (4, 2), False)
    assert list(page.suspects) == list(range(5, 20))
    assert (page.start, len(page.pictures)) == (10, 5)


def test_of_two_decisions_about_a_suspect_the_later_is_recorded() -> None:
    asked: list[dict[int, Decision | None]] = []

    def write(changes: Mapping[int, Decision | None]) -> None:
        asked.append(dict(changes))
        if len(asked) == 1:
            notebook.set({1: "drop"}, 0)  # decided while the first is being written
            raise UsageError("the disk is full")

    notebook = Notebook(write)
    notebook.set({1: "keep"}, 0)
    with pytest.raises(UsageError):
        notebook.write()
    notebook.write()
    assert asked == [{1: "keep"}, {1: "drop"}]


async def test_an_older_fault_does_not_clear_what_was_read_again(scanned: Workspace) -> None:
    async with app_on(scanned, (240, 40)) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        grid = grid_of(app)
        before = grid._read
        assert before is not None
        await pilot.press("f5")
        await until(lambda: grid._read is not before and FIRST in screen_text(app))
        grid.post_message(SuspectGrid.Unreadable(OSError("torn"), before))
        await pilot.pause()
        assert FIRST in screen_text(app) and "cannot be read" not in screen_text(app)
        assert grid._read is not None
        grid.post_message(SuspectGrid.Unreadable(OSError("torn"), grid._read))
        await until(lambda: "torn" in screen_text(app))


async def test_while_the_same_scan_is_read_again_a_key_means_the_suspect_in_view(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        grid, scan = grid_of(app), app.main.query_one(ReviewPane).scan
        assert scan is not None and grid._read is not None
        await until(lambda: grid.current is not None)
        grid.show(scan.findings.suspects, scan.shape, scan.findings, {}, grid._read)
        assert grid.current is not None and grid.current.index == 100
        grid.clear()
        assert grid.current is None
