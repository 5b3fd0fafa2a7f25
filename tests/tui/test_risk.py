from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from textual.pilot import Pilot

from safedl.conclusions import gather
from safedl.profile.load import load
from safedl.workspace import Workspace
from tests.conclusions.measured import PROFILE, ran, save
from tests.store.samples import Workplace
from tests.tui.conftest import SIZES, app_on, golden, screen_text, until
from tui.app import SafedlApp
from tui.panes.defenses import DefensesPane
from tui.panes.risk import Reader, RiskPane
from tui.services.drafts import choose
from tui.widgets.matrix import Matrix
from tui.widgets.modal import Dialog
from tui.widgets.scroll import Scroll
from tui.widgets.sqlconsole import SqlEditor


async def opened(app: SafedlApp, pilot: Pilot[None]) -> RiskPane:
    await app.action_go("risk")
    pane = app.pane
    assert isinstance(pane, RiskPane)
    await until(lambda: not pane.status.endswith("…"))
    await pilot.pause()
    return pane


async def test_matrix_and_ranking_are_one_selection(workspace: Workspace) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert [a.attack for a in pane.table.rows] == ["static_patch", "label_flipping"]
        assert pane.query_one(Matrix).cell == (2, 2)
        text = screen_text(app)
        assert "H▓ 1" in text or "C█ 1" in text
        assert "The attack worked: ASR 0.960" in text
        await pilot.press("j")
        await until(lambda: "attack not effective" in screen_text(app).lower())
        pane.query_one(Matrix).focus()
        await pilot.press("h", "l")
        await until(lambda: pane.table.current is not None and pane.table.current.attack == "static_patch")
        await pilot.press("enter")
        await until(lambda: isinstance(app.pane, DefensesPane))
        assert isinstance(app.pane, DefensesPane) and app.pane.attack == "static_patch"


async def test_the_experiment_is_told_by_the_time_of_the_place(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", "America/New_York")
    time.tzset()
    save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert pane.status.endswith("experiment of 2026-01-01 22:04"), pane.status


async def test_the_report_opens_and_the_section_is_written(workspace: Workspace) -> None:
    path = save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace) as (app, pilot):
        await opened(app, pilot)
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, Reader))
        await until(lambda: "Risk analysis of small" in screen_text(app))
        await pilot.press("escape", "w")
        await until(lambda: "risk_analysis" in path.read_text())
        assert load(path).risk_analysis["recommendations"]["static_patch"][0] == "spectral_signatures"
        assert path.read_text().startswith(PROFILE[: PROFILE.index("threat_model")])


async def test_reasons_report_and_dialogs_scroll_by_the_keys_of_the_lists(workspace: Workspace) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        box = pane.query_one("#why-box").query_one(Scroll)
        box.focus()
        await pilot.press("j", "j")
        await until(lambda: box.scroll_y == 2)
        await pilot.press("o")
        await until(lambda: isinstance(app.screen, Reader) and any(s.max_scroll_y for s in app.screen.query(Scroll)))
        await pilot.press("G")
        reader = app.screen.query_one(Scroll)
        await until(lambda: reader.scroll_y == reader.max_scroll_y)
        await pilot.press("escape")
        await until(lambda: len(app.screen_stack) == 1)
        app.push_screen(Dialog("long", "\n".join(map(str, range(100)))))
        await until(lambda: isinstance(app.screen, Dialog) and any(s.max_scroll_y for s in app.screen.query(Scroll)))
        await pilot.press("j")
        await until(lambda: app.screen.query_one(Scroll).scroll_y == 1)


@pytest.mark.parametrize("size", SIZES)
async def test_screens(workspace: Workspace, size: tuple[int, int]) -> None:
    save(workspace.root)
    async with app_on(workspace, size) as (app, pilot):
        await opened(app, pilot)
        for key in ("enter", "o", "w", "y", "j"):
            await pilot.press(key)
        app.clear_notifications()
        await pilot.pause()
        await opened(app, pilot)
        await golden(app, "risk_empty")
        ran(Workplace(workspace.root))
        pane = await opened(app, pilot)
        await until(lambda: pane.table.rows)
        await pilot.pause()
        await golden(app, "risk")


async def test_a_profile_that_is_not_valid_says_what_is_wrong(workspace: Workspace) -> None:
    save(workspace.root, PROFILE.replace("target_class: 2", "target_class: 12"))
    async with app_on(workspace) as (app, pilot):
        pane = await opened(app, pilot)
        assert "target_class" in pane.status
        await golden(app, "risk_error")


async def test_one_profiles_results_never_stand_under_another(workspace: Workspace) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    other = workspace.root / "profiles" / "other.yaml"
    other.write_text(PROFILE.replace("name: small", "name: other"))
    async with app_on(workspace) as (app, pilot):
        choose(app, "small")
        pane = await opened(app, pilot)
        await until(lambda: pane.table.rows)
        choose(app, "other")
        workspace.db.write_bytes(b"rubbish" * 1000)
        pane.paint()
        assert pane.found is None
        await until(lambda: isinstance(app.screen, Dialog))
        await pilot.press("escape", "w")
        assert "could not be read" in pane.status
        assert "risk_analysis" not in other.read_text()


async def test_what_comes_late_takes_no_focus_from_another_pane(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    read, may_answer = gather.conclude, threading.Event()

    def slowly(*arguments: Any) -> gather.Conclusions:
        assert may_answer.wait(60)
        return read(*arguments)

    monkeypatch.setattr(gather, "conclude", slowly)
    async with app_on(workspace) as (app, pilot):
        await app.action_go("risk")
        pane = app.pane
        assert isinstance(pane, RiskPane)
        await app.action_go("compare")
        await pilot.press("s")
        await until(lambda: isinstance(app.focused, SqlEditor) and app.focused.has_focus)  # it hears of it later
        editor = app.focused
        lost: list[object] = []

        def note(has: bool) -> None:
            lost.append(has)

        assert editor is not None
        editor.watch(editor, "has_focus", note, init=False)
        may_answer.set()
        await until(lambda: pane.table.rows)
        await pilot.pause()
        assert isinstance(app.focused, SqlEditor) and not lost


async def test_only_what_can_be_done_is_offered_where_nothing_was_measured(workspace: Workspace) -> None:
    save(workspace.root)
    async with app_on(workspace) as (app, pilot):
        await opened(app, pilot)
        await until(lambda: "R run the profile" in screen_text(app).splitlines()[-1])
        assert not {"defend", "report", "write"} & set(screen_text(app).splitlines()[-1].split())
        ran(Workplace(workspace.root))
        await opened(app, pilot)
        await until(lambda: "⏎ defend  o report  w write" in screen_text(app).splitlines()[-1])


async def test_what_comes_late_stands_under_no_profile_that_is_not_valid(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(workspace.root)
    ran(Workplace(workspace.root))
    wrong = PROFILE.replace("name: small", "name: wrong").replace("target_class: 2", "target_class: 12")
    (workspace.root / "profiles" / "wrong.yaml").write_text(wrong)
    read, may_answer, answered = gather.conclude, threading.Event(), list[gather.Conclusions]()

    def slowly(*arguments: Any) -> gather.Conclusions:
        assert may_answer.wait(60)
        answered.append(read(*arguments))
        return answered[-1]

    monkeypatch.setattr(gather, "conclude", slowly)
    async with app_on(workspace) as (app, pilot):
        choose(app, "small")
        for name in ("risk", "defenses"):
            await app.action_go(name)
        choose(app, "wrong")
        pane = await opened(app, pilot)
        await app.action_go("defenses")
        defenses = app.pane
        assert isinstance(defenses, DefensesPane)
        may_answer.set()
        await until(lambda: len(answered) == 2)
        for _ in range(3):
            await app.read()
            await pilot.pause()
        assert pane.found is None and "target_class" in pane.status
        assert not defenses.advice
