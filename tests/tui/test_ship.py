from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

import pytest
from textual.pilot import Pilot

from safedl.conclusions import notes
from safedl.conclusions.gather import conclude
from safedl.decision.answers import Answer
from safedl.decision.decide import Item
from safedl.errors import NotFoundError, UsageError
from safedl.profile.load import load
from safedl.workspace import Workspace
from tests.conclusions.measured import PROFILE, ran, save
from tests.store.samples import Workplace
from tests.tui.conftest import NOW, SIZES, app_on, golden, screen_text, until
from tui.app import SafedlApp
from tui.panes.ship import ShipPane
from tui.services import ship as service
from tui.widgets.fillin import Field, FillIn

STRICT = PROFILE + "acceptance: {max_asr: 0.001}\n"
TODAY = datetime.fromtimestamp(NOW, UTC).date()


@pytest.fixture
def filled(workspace: Workspace) -> Iterator[Workspace]:
    """A workspace whose profile was run; its ASR is above what it accepts."""
    work = Workplace(workspace.root)
    ran(work, STRICT, seeds=[0])
    save(workspace.root, STRICT)
    work.recorder.close()
    yield workspace


async def open_pane(app: SafedlApp, pilot: Pilot[None]) -> ShipPane:
    await pilot.press("7")
    await until(lambda: app.pane is not None and app.pane.id == "ship")
    pane = app.main.query_one(ShipPane)
    await until(lambda: pane.status)
    return pane


async def go_to(pane: ShipPane, id: str) -> Item:
    ids = [item.id for item in pane.table.rows]
    pane.table.cursor = ids.index(id)
    return pane.table.rows[ids.index(id)]


def answers(workspace: Workspace) -> dict[str, Answer]:
    return notes.read(workspace.results, "small")


def status(pane: ShipPane, id: str) -> str:
    return next(item.status for item in pane.table.rows if item.id == id)


@pytest.mark.parametrize("size", SIZES)
async def test_a_profile_that_never_ran(workspace: Workspace, size: tuple[int, int]) -> None:
    save(workspace.root)
    async with app_on(workspace, size) as (app, pilot):
        pane = await open_pane(app, pilot)
        assert pane.status.startswith("BLOCKED: ")
        await until(lambda: "never ran" in screen_text(app))
        await pilot.press("E")
        await until(lambda: "nothing to report yet" in screen_text(app))
        app.clear_notifications()
        await until(lambda: "nothing to report yet" not in screen_text(app))
        await golden(app, "ship_never_ran")


@pytest.mark.parametrize("size", SIZES)
async def test_a_profile_that_ran(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        pane = await open_pane(app, pilot)
        await go_to(pane, "max_asr")
        await until(lambda: "w waives it" in screen_text(app))
        assert "(exit code 3 in CI)" in pane.status and "1 failed" in pane.status
        assert "✗ FAIL" in screen_text(app) and "– N/A" in screen_text(app)
        await golden(app, "ship")


@pytest.mark.parametrize("size", SIZES)
async def test_a_broken_profile_says_what_is_wrong(filled: Workspace, size: tuple[int, int]) -> None:
    save(filled.root, "name: [small\n")
    async with app_on(filled, size) as (app, pilot):
        await open_pane(app, pilot)
        await until(lambda: "There is no checklist of small" in screen_text(app))
        assert len(app.screen_stack) == 1
        await pilot.pause()
        assert "p picks another profile, F5 reads again" in screen_text(app)
        assert screen_text(app).splitlines()[-1].startswith(" p profile"), "the other keys mean an item"
        save(filled.root, STRICT)
        await pilot.press("f5")
        await until(lambda: "Deployment checklist · small ·" in screen_text(app))
        await until(lambda: "space done  n note" in screen_text(app))


async def test_the_list_is_the_one_of_safedl_check(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        said = conclude(filled.db, filled.results, load(filled.root / "profiles" / "small.yaml"))
        assert tuple(pane.table.rows) == said.decision.checklist


async def test_space_settles_and_opens_again(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await go_to(pane, "drift")
        await pilot.press("space")
        await until(lambda: status(pane, "drift") == "done")
        assert answers(filled) == {"drift": Answer(done=True, date=TODAY)}
        assert pane.table.current is not None and pane.table.current.id == "drift"
        await pilot.press("space")
        await until(lambda: status(pane, "drift") == "open")
        assert answers(filled) == {}


async def test_an_automatic_check_cannot_be_ticked(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await go_to(pane, "max_asr")
        for key in ("space", "n"):
            await pilot.press(key)
            await until(lambda: "checked automatically" in screen_text(app))
        await go_to(pane, "accuracy_drop")
        await pilot.press("w")
        await until(lambda: "only a failed check needs a waiver" in screen_text(app))
        assert len(app.screen_stack) == 1 and answers(filled) == {}


async def test_a_note_with_owner_and_date(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await go_to(pane, "ci_gate")
        await pilot.press("n")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"job [/b] w", "enter", *"ana", "enter", *"soon", "enter")
        await until(lambda: "write the date as 2027-01-31" in screen_text(app))
        await pilot.press("ctrl+u", *"2026-12-01", "enter")
        await until(lambda: "job [/b] w" in screen_text(app))
        assert answers(filled) == {"ci_gate": Answer(note="job [/b] w", owner="ana", date=date(2026, 12, 1))}
        assert status(pane, "ci_gate") == "open"
        await pilot.press("space")
        await until(lambda: status(pane, "ci_gate") == "done")
        assert answers(filled)["ci_gate"].note == "job [/b] w"


async def test_a_waiver_needs_an_owner_and_lifts_the_block(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await go_to(pane, "max_asr")
        await pilot.press("w")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"SEC-114", "ctrl+s")
        await until(lambda: "a waiver needs an owner" in screen_text(app))
        await pilot.press("enter", *"rui", "enter")
        await until(lambda: status(pane, "max_asr") == "waived")
        assert pane.status.startswith("GO: ") and "1 waived" in pane.status
        assert answers(filled) == {"max_asr": Answer(waiver="SEC-114", owner="rui", date=TODAY)}
        await pilot.press("w")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press("ctrl+u", "ctrl+s")
        await until(lambda: status(pane, "max_asr") == "fail")
        assert answers(filled) == {}


async def test_enter_opens_the_run_that_a_check_rests_on(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        item = await go_to(pane, "threats_covered")
        assert len(item.evidence) == 2
        await pilot.press("enter")
        await until(lambda: len(app.screen_stack) == 2 and "label_flipping@0" in screen_text(app))
        await pilot.press("enter")
        await until(lambda: app.pane is not None and app.pane.id == "runs" and item.evidence[0] in screen_text(app))


async def test_the_report_is_written_and_nothing_overwritten_unasked(filled: Workspace) -> None:
    path = filled.results / "final_report.html"
    path.write_text("mine")
    async with app_on(filled) as (app, pilot):
        await open_pane(app, pilot)
        await pilot.press("E")
        await until(lambda: len(app.screen_stack) == 2)
        field = app.screen.query_one(Field)
        assert field.value == str(path)
        field.value = "report.txt"
        await pilot.press("enter")
        await until(lambda: "ends with .md or .html" in screen_text(app))
        field.value = str(path)
        await pilot.press("enter")
        await until(lambda: "final_report.html exists" in screen_text(app))
        assert path.read_text() == "mine"
        await pilot.press("o")
        await until(lambda: "NO-GO" in path.read_text())


def test_a_run_without_a_completed_attack_is_reported(workspace: Workspace) -> None:
    work = Workplace(workspace.root)
    path, target = save(workspace.root), workspace.root / "r.md"
    with pytest.raises(NotFoundError, match="has not run yet"):
        service.write_report(workspace, path, target)
    ran(work, seeds=[0], statuses={"static_patch@0": "cancelled", "label_flipping@0": "cancelled"})
    work.recorder.close()
    service.write_report(workspace, path, target)
    assert "**NO-GO**" in target.read_text()


async def test_another_profile(filled: Workspace) -> None:
    other = filled.root / "profiles" / "other.yaml"
    other.write_text(PROFILE.replace("name: small", "name: other"))
    async with app_on(filled) as (app, pilot):
        await open_pane(app, pilot)
        await until(lambda: "Deployment checklist · small ·" in screen_text(app))
        await pilot.press("p")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"other", "enter")
        await until(lambda: "Deployment checklist · other ·" in screen_text(app))


async def test_a_profile_that_is_gone_when_it_is_picked_is_told(filled: Workspace) -> None:
    path = filled.root / "profiles" / "aside.yaml"
    path.write_text(PROFILE)
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await pilot.press("p", *"aside")
        await until(lambda: "aside" in screen_text(app) and "fashion" not in screen_text(app))
        path.unlink()
        await pilot.press("enter")
        await until(lambda: "Could not show the profile" in screen_text(app))
        assert pane.profile.stem == "small"


async def test_an_answer_that_is_being_written_outlives_the_profile(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        pane = await open_pane(app, pilot)
        await until(lambda: pane.table.rows)
        item = next(i for i in pane.table.rows if not i.automatic)
        answer = pane._answerer()
        pane.found = None  # reading it again has failed meanwhile
        answer(item, Answer(note="asked ana"))
        await until(lambda: item.id in answers(filled))
        assert answers(filled)[item.id].note == "asked ana"


def test_an_answer_that_cannot_be_written_is_no_fault_of_ours(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "notes")

    monkeypatch.setattr(notes, "change", refuse)
    with pytest.raises(UsageError, match="cannot be written"):
        service.answer(workspace, "small", "x", None)


@pytest.mark.parametrize("path", ["~nobody-of-that-name/r.html", f"{'x' * 300}.html"])
async def test_a_path_that_cannot_be_is_an_objection(filled: Workspace, path: str) -> None:
    async with app_on(filled) as (app, pilot):
        await open_pane(app, pilot)
        await pilot.press("E")
        await until(lambda: isinstance(app.screen, FillIn))
        app.screen.query_one(Field).value = path
        await pilot.press("ctrl+s")
        await pilot.pause()
        assert isinstance(app.screen, FillIn)
        assert str(app.screen.query_one(".objection").render())  # type: ignore[attr-defined]
