from __future__ import annotations

import json
from itertools import count
from pathlib import Path

import pytest
from textual.events import Key
from textual.pilot import Pilot

from safedl.store.named import named_query
from safedl.workspace import Workspace
from tests.tui.conftest import SIZES, app_on, golden, screen_text, until
from tests.tui.test_compare import filled, open_pane
from tui.app import SafedlApp
from tui.services import export, queries
from tui.widgets.fillin import Field
from tui.widgets.modal import Dialog
from tui.widgets.sqlconsole import SqlConsole

__all__ = ["filled"]
NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {}) SELECT i FROM n"


@pytest.fixture(autouse=True)
def _slow_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each query takes a millisecond."""
    ticks = count()
    monkeypatch.setattr(queries, "perf_counter", lambda: next(ticks) / 1000)


async def console_of(app: SafedlApp, pilot: Pilot[None]) -> SqlConsole:
    pane = await open_pane(app, pilot)
    await pilot.press("s")
    await until(lambda: pane.console.editor.has_focus)
    return pane.console


def message(console: SqlConsole) -> str:
    return str(console.query_one("#sql-message").render())


async def ask(console: SqlConsole, pilot: Pilot[None], text: str, said: str) -> None:
    console.editor.load_text(text)
    await pilot.press("ctrl+j")
    await until(lambda: said in message(console))


@pytest.mark.parametrize("size", SIZES)
async def test_rows_and_focus(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        console = await console_of(app, pilot)
        await pilot.press("ctrl+j")
        await until(lambda: "4 rows · 1.0 ms · reads only" in message(console))
        assert console.editor.has_focus
        await pilot.pause()
        await golden(app, "compare_sql")


async def test_an_error_leaves_no_rows_of_an_earlier_query_and_the_editor_can_be_emptied(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        assert "F4 clears" in message(console)
        await ask(console, pilot, "SELECT uid FROM run", "rows")
        assert console.rows.count
        await ask(console, pilot, "SELECT uid FROM runs", "no such table: runs; there are: run, attack_results")
        assert not console.rows.count and console.answered is None
        await until(lambda: "defense_results" in screen_text(app))
        await pilot.press("f4")
        assert console.editor.text == "" and "ctrl+z brings it back" in message(console)


@pytest.mark.parametrize("size", SIZES)
async def test_an_error_in_one_line(filled: Workspace, size: tuple[int, int]) -> None:
    async with app_on(filled, size) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT nonsense FROM run", "✗ SQL: no such column: nonsense")
        assert console.editor.has_focus and len(app.screen_stack) == 1
        await golden(app, "compare_sql_error")
        await ask(console, pilot, "DELETE FROM run", "not allowed here")
        await ask(console, pilot, "SELECT :attack", "binding")


async def test_without_a_store(workspace: Workspace) -> None:
    async with app_on(workspace) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT 1", "✗ no store yet")


async def test_a_value_that_is_none_is_called_alike_in_the_row_and_in_full(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT NULL", "1 row")
        console.rows.focus()
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Dialog))
        assert isinstance(app.screen, Dialog) and app.screen.body == "null"


async def test_letters_belong_to_the_editor_until_esc(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        console.editor.load_text("")
        await pilot.press(*"btvrE6?")
        assert console.editor.text == "btvrE6?" and len(app.screen_stack) == 1
        await pilot.press("escape")
        await until(lambda: not console.editor.has_focus)


async def test_keys_that_come_in_a_burst_keep_their_order(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        console.editor.load_text("SELECT 1\nFROM run")
        for key in ("down", "down", "end", "L", "home", "W", "ctrl+e", "X", "backspace", "Y"):
            app.post_message(Key(key, key if len(key) == 1 else None))
        await until(lambda: "Y" in console.editor.text)
        assert console.editor.text == "SELECT 1\nWFROM runLY"


async def test_more_rows_than_are_shown(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, NUMBERS.format(500), "500 rows")
        await ask(console, pilot, NUMBERS.format(600), "500 of >500 rows")
        assert console.rows.count == 500
        await pilot.press("escape", "E")
        await until(lambda: len(app.screen_stack) == 2)
        path = filled.root / "all.json"
        app.screen.query_one(Field).value = str(path)
        await pilot.press("enter")
        await until(path.exists)
        assert [row["i"] for row in json.loads(path.read_text())] == list(range(1, 601))


async def test_a_query_that_never_ends_is_stopped(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, NUMBERS.format(10**12) + " ORDER BY i DESC", "running")
        await pilot.press("ctrl+j")
        await until(lambda: "a query runs; ctrl+x stops it" in screen_text(app))
        await pilot.press("ctrl+x")
        await until(lambda: "✗ the query was stopped" in message(console))
        await ask(console, pilot, "SELECT 1", "1 row ·")


async def test_history_is_kept_between_starts(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT 11", "1 row ·")
        await ask(console, pilot, "SELECT 22 UNION SELECT 23", "2 rows")
        app.memory.save()
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        assert console.editor.text == "SELECT 22 UNION SELECT 23"
        await pilot.press("f2")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"11", "enter")
        await until(lambda: console.editor.text == "SELECT 11" and console.editor.has_focus)


async def test_what_is_typed_and_not_run_is_there_at_the_next_start(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        console.editor.load_text("")
        await pilot.press(*"half a query", "ctrl+q")
    async with app_on(filled) as (app, pilot):
        assert (await console_of(app, pilot)).editor.text == "half a query"


async def test_an_empty_query_is_none_of_the_earlier_ones_and_what_was_emptied_comes_back(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT 11", "1 row ·")
        await pilot.press("f4", *"SELECT 12", "f4")
        await until(lambda: not console.editor.text and "ctrl+z brings it back" in message(console))
        await pilot.press("ctrl+j")
        await until(lambda: "✗ an empty query" in message(console))
        assert app.memory.get("sql history", []) == ["SELECT 11"]
        await pilot.press("ctrl+z")
        await until(lambda: console.editor.text == "SELECT 12")
        await pilot.press("f2", "enter")
        await until(lambda: console.editor.text == "SELECT 11")


async def test_named_queries(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        console.known = {"attack": "static_patch"}
        await pilot.press("f3")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"before_after", "enter")
        await until(lambda: "3 rows" in message(console))
        assert console.editor.text.splitlines()[:2] == ["-- attack = static_patch", "-- dataset ="]
        console.known = {}
        await pilot.press("f3")
        await until(lambda: len(app.screen_stack) == 2)
        await pilot.press(*"pareto", "enter")
        await until(lambda: "fill in attack at the top" in message(console))
        await pilot.press(*" static_patch", "ctrl+j")
        await until(lambda: "rows ·" in message(console))
        assert console.answered is not None
        assert "spectral_signatures" in {row[3] for row in console.answered.answer.rows}


async def test_foreign_text_is_harmless_and_shown_whole(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT '[/b]' || char(27) || '[31m' || printf('%.200c', 'x') AS t, NULL", "1 row ·")
        assert r"[/b]\x1b[31mxxx" in screen_text(app)
        await pilot.press("escape", "enter")
        await until(lambda: len(app.screen_stack) == 2 and screen_text(app).count("x") > 200)


async def test_a_uid_opens_its_run(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT uid FROM run WHERE attack = 'static_patch' AND kind = 'attack'", "1 row ·")
        assert console.answered is not None
        uid = console.answered.answer.rows[0][0]
        await pilot.press("escape", "enter")
        await until(lambda: app.pane is not None and app.pane.id == "runs" and uid in screen_text(app))


def test_parameters_stand_in_the_first_lines() -> None:
    text = "-- attack = static_patch\n--dataset=\n-- n = 3\n\nSELECT 1\n-- late = 1"
    assert queries.given(text) == {"attack": "static_patch", "dataset": None, "n": 3}
    sweep = named_query("sweep")
    assert queries.missing(sweep, {}) == ["parameter"]
    text = queries.written_out(sweep, {"parameter": "attack.poison_fraction", "attack": "nothing that must be given"})
    assert queries.given(text) == dict.fromkeys(sweep.parameters) | {"parameter": "attack.poison_fraction"}


async def test_a_long_text_is_shown_whole(filled: Workspace) -> None:
    async with app_on(filled) as (app, pilot):
        console = await console_of(app, pilot)
        await ask(console, pilot, "SELECT printf('%.400c', 'x') AS long", "1 row")
        console.rows.focus()
        await pilot.press("enter")
        await until(lambda: isinstance(app.screen, Dialog) and "xxxxxxxx" in screen_text(app))


@pytest.mark.parametrize("name", ["t.json", "t.JSON"])
def test_the_ending_of_a_file_tells_its_form_in_any_spelling(tmp_path: Path, name: str) -> None:
    export.write_rows(tmp_path / name, ["a", "b"], [[1, "x"]])
    assert json.loads((tmp_path / name).read_text()) == [{"a": 1, "b": "x"}]
