"""The Review pane: suspects as pictures, and decisions by keys."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import pytest
from textual.pilot import Pilot

from safedl import review
from safedl.errors import UsageError
from safedl.review import path_of
from safedl.workspace import Workspace
from tests.tui.conftest import SIZES, app_on, golden, screen_text, until
from tests.tui.scans import FIRST, add_scan, decided, grid_of, suspects
from tui.app import SafedlApp
from tui.panes.review import ReviewPane
from tui.services import review as service
from tui.widgets.modal import Picker


@pytest.fixture
def scanned(workspace: Workspace) -> Workspace:
    """A workspace with a scan that has 43 suspects in three groups."""
    add_scan(workspace, 43)
    return workspace


def refuse(*_: object) -> None:
    """Take the place of `review.decide`."""
    raise UsageError("the disk is full")


async def review_of(app: SafedlApp, pilot: Pilot[None], uid: str) -> ReviewPane:
    """Show a scan, whichever is the newest."""
    if app.pane is None or app.pane.id != "review":
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
    pane = app.main.query_one(ReviewPane)
    pane.show_scan(uid)
    await until(lambda: pane.scan is not None and pane.scan.uid == uid and grid_of(app).current is not None)
    await until(lambda: f"· {uid}" in screen_text(app) and FIRST in screen_text(app))
    return pane


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


async def test_decisions_are_in_view_in_the_smallest_terminal(scanned: Workspace) -> None:
    async with app_on(scanned, (60, 16)) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "? undecided" in screen_text(app) and grid_of(app).has_focus)
        await pilot.press("space", "h")
        await until(lambda: "✓ keep" in screen_text(app))


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_scan_it_says_how_to_make_one(workspace: Workspace, size: tuple[int, int]) -> None:
    async with app_on(workspace, size) as (app, pilot):
        await pilot.press("8")
        await until(lambda: "Nothing has been scanned" in screen_text(app))
        await golden(app, "review_empty")
        await pilot.press("z", "o", "t", "e", "y", "u")
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


async def test_of_a_long_path_the_end_is_shown(workspace: Workspace) -> None:
    add_scan(workspace, 3)
    file = f"train/{'heart failure ' * 6}/station 漢/scan 107.png"
    found = [replace(s, file=file if s.index == 107 else s.file) for s in suspects(3)]
    review.write_suspects(workspace.run_folder("scan-1"), found)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("l")
        await until(lambda: "/scan 107.png" in screen_text(app))


async def test_pictures_are_shades_without_colours(scanned: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    async with app_on(scanned) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        assert "▀" not in screen_text(app)
        assert any(line.count("@") >= 4 for line in screen_text(app).splitlines())  # the patch, in four pictures


async def test_all_detectors_of_a_suspect_can_be_read(workspace: Workspace) -> None:
    add_scan(workspace, 3)
    names = ("activation_clustering", "spectral_signatures", "confident_learning", "anomaly_detection", "strip")
    found = [replace(s, detectors=names if s.index == 107 else s.detectors) for s in suspects(3)]
    review.write_suspects(workspace.run_folder("scan-1"), found)
    async with app_on(workspace) as (app, pilot):
        await pilot.press("8")
        await until(lambda: FIRST in screen_text(app))
        await pilot.press("l")
        await until(lambda: "anomaly_detection, strip" in screen_text(app))


# --- deciding


async def test_a_group_says_which_earlier_decisions_it_replaces_and_undoing_takes_the_word_back(
    scanned: Workspace,
) -> None:
    async with app_on(scanned) as (app, pilot):
        pane = await review_of(app, pilot, "scan-1")
        await pilot.press("space", "d", "g", "c", "d")  # the first suspect is kept, and of the same group
        told = "group 0: 15 dropped, 1 earlier decision replaced; u takes it back"
        await until(lambda: told in [n.message for n in app._notifications] and not pane._looking)
        await pilot.press("u")
        await until(lambda: not app._notifications)
        await until(lambda: decided(scanned) == {100: "keep", 107: "drop"})


async def test_decisions_of_the_command_line_are_shown_as_they_come(scanned: Workspace) -> None:
    async with app_on(scanned) as (app, pilot):
        pane = await review_of(app, pilot, "scan-1")
        await pilot.press("l", "l", "c")
        review.decide(scanned.results, "scan-1", {100: "drop", 107: "keep"})
        await until(
            lambda: "1 kept, 1 dropped" in screen_text(app) or (pane.notebook and len(pane.notebook.values) == 2)
        )
        await until(lambda: grid_of(app).place == 2 and "✗ drop" in screen_text(app))
        assert pane.whole_group
        await pilot.press("escape")
        await until(lambda: "1 kept, 1 dropped, 0 relabelled" in screen_text(app))


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


@pytest.mark.parametrize("meanwhile", ["n", "f5", "another scan"])
async def test_a_decision_about_a_group_is_not_lost_by_what_is_done_while_it_is_searched(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    add_scan(scanned, 43, "scan-2")
    go = threading.Event()
    original = service.members

    def slow(*arguments: Any) -> list[review.Suspect]:
        assert go.wait(60)
        return original(*arguments)

    monkeypatch.setattr(service, "members", slow)
    async with app_on(scanned) as (app, pilot):
        pane = await review_of(app, pilot, "scan-1")
        before = pane.scan
        await pilot.press("c", "space")
        if meanwhile == "another scan":
            await review_of(app, pilot, "scan-2")
        else:
            await pilot.press(meanwhile)
            await until(lambda: meanwhile == "n" or pane.scan is not before)
        go.set()
        await until(lambda: decided(scanned) == {s.index: "keep" for s in suspects(43) if s.group == 0})
        await until(lambda: grid_of(app).place == (0 if meanwhile == "another scan" else 1))
    assert not path_of(scanned.results, "scan-2").exists()


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
        assert go.wait(60)
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
