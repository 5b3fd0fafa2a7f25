"""The Review pane: decisions outlive the app, faults of the disk, and reloads."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

import pytest

from safedl import review
from safedl.errors import UsageError
from safedl.review import Decision, path_of
from safedl.store.reindex import reindex
from safedl.workspace import Workspace
from tests.tui.conftest import app_on, screen_text, until
from tests.tui.scans import FIRST, add_scan, decided
from tests.tui.test_review_pane import refuse, review_of, scanned
from tui.services import review as service
from tui.services.review import Notebook
from tui.widgets.modal import Dialog

__all__ = ["scanned"]
"""A fixture of theirs."""


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


@pytest.mark.parametrize("then", ["f5", "ctrl+q"])
async def test_what_cannot_be_written_waits_while_another_scan_is_shown(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    add_scan(scanned, 43, "scan-2")
    async with app_on(scanned) as (app, pilot):
        await review_of(app, pilot, "scan-1")
        with monkeypatch.context() as patch:
            patch.setattr(review, "decide", refuse)
            await pilot.press("d")
            await until(lambda: isinstance(app.screen, Dialog))
            await pilot.press("escape")
            await review_of(app, pilot, "scan-2")
            await until(lambda: "NOT WRITTEN for scan-1, F5 tries again: the disk is full" in screen_text(app))
            await review_of(app, pilot, "scan-1")
            await until(lambda: "NOT WRITTEN: the disk is full" in screen_text(app) and "✗ drop" in screen_text(app))
            await review_of(app, pilot, "scan-2")
        assert decided(scanned) == {}
        await pilot.press(then)
        await until(lambda: then != "f5" or (decided(scanned) and "NOT WRITTEN" not in screen_text(app)))
    assert decided(scanned) == {100: "drop"}


async def test_decisions_while_the_scan_is_read_again_stay_and_can_be_taken_back(
    scanned: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()
    original = service.open_scan

    def slow(workspace: Workspace, uid: str) -> service.Scan:
        scan = original(workspace, uid)
        assert go.wait(60)
        return scan

    async with app_on(scanned) as (app, pilot):
        pane = await review_of(app, pilot, "scan-1")
        before = pane.scan
        monkeypatch.setattr(service, "open_scan", slow)
        await pilot.press("f5", "d", "space")
        await until(lambda: decided(scanned) == {100: "drop", 107: "keep"})
        go.set()
        await until(lambda: pane.scan is not before)
        await until(lambda: "41 undecided" in screen_text(app) and "✗ drop" in screen_text(app))
        await pilot.press("u", "u")
        await until(lambda: decided(scanned) == {})


@pytest.mark.parametrize(
    "damage", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00\x04\x00{{\n\n"], ids=["empty", "zip", "header"]
)
def test_a_file_without_pictures_is_no_picture(scanned: Workspace, damage: bytes) -> None:
    whole = service.open_scan(scanned, "scan-1")
    (scanned.run_folder("scan-1") / review.IMAGES).write_bytes(damage)
    scan = service.open_scan(scanned, "scan-1")
    assert (whole.shape, scan.shape) == ((28, 28), None)
    for opened in (whole, scan):  # it may be damaged after it was opened
        page = service.read_page(scanned, opened, 0, 2, (10, 5), True)
        assert [[line.plain for line in picture] for picture in page.pictures] == [["no picture"]] * 2


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
